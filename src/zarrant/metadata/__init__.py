"""Documents: JSON to frozen dataclasses and back, with every unknown member that may be ignored kept."""
