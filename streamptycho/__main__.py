"""`python -m streamptycho` is the command line."""

from streamptycho.cli import main

if __name__ == "__main__":
    main()
