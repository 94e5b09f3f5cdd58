"""`python -m zarrant` is the command line."""

from zarrant.cli import main

if __name__ == "__main__":
    main()
