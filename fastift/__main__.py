"""`python -m fastift`: the same as the `fastift` command."""

from .cli import main

if __name__ == "__main__":
    main()
