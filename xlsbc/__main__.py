"""``python -m xlsbc``: the command line."""

from xlsbc.cli import main

if __name__ == "__main__":
    main()
