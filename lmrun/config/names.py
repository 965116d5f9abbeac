"""What may be the name of a recipe or an option."""


def is_name(name: str) -> bool:
    """False for what could reach outside the folder or be read as a file name."""
    return bool(name) and not set(name) & set("./\\")
