"""What the command line does, as functions: describe, copy, convert, picture, doctor, demo. Nothing here prints."""
