"""`python -m limbeck` is `limbeck`, by the Python that is named."""

from limbeck.cli import main

if __name__ == "__main__":
    main()
