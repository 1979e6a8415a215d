"""`python -m edco_rl` is the `edco-rl` command."""

from .cli import main

if __name__ == "__main__":
    main()
