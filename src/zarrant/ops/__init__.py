"""Operations: what is done with arrays and groups, as generators of requests that a driver performs (`zarrant.requests`)."""
