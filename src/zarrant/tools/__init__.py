"""What the command line does, as functions: describe, copy, convert, check, repair, doctor. Nothing here prints."""
