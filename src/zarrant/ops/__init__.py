"""Operations: generators that say what happens, for drivers that make it happen."""
