"""Uploads an export to the Hugging Face hub."""

from pathlib import Path

from flax_agnews.data.hub import quiet
from flax_agnews.errors import UserError, flag, shown


def check_upload(name: str) -> None:
    """Raises a `UserError` where the repository's name is invalid, or no token is set."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"{flag('upload')} {name}: is no OWNER/NAME of a repository ({shown(error, 200)})") from error
    if name.count("/") != 1:
        raise UserError(f"{flag('upload')} {name}: must be OWNER/NAME")
    if get_token() is None:
        raise UserError(f"{flag('upload')} {name}: there is no token; log in by `hf auth login`, or set HF_TOKEN")


def upload(folder: Path, name: str, private: bool) -> str:
    """Uploads a folder as a model repository, created where it is missing; returns the repository's URL.

    Args:
        folder: the finished export.
        name: OWNER/NAME of the repository.
        private: whether a new repository is private.

    Raises:
        UserError: the hub refuses or can't be reached; the message has the hub's.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi()
    try:
        with quiet():
            address = api.create_repo(name, private=private or None, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload of flax_agnews")
    except HfHubHTTPError as error:
        status = error.response.status_code
        why = "the token may not write there" if status in (401, 403) else f"the hub refuses ({shown(error, 200)})"
        raise UserError(f"{flag('upload')} {name}: {why}; {folder} is written") from error
    except OfflineModeIsEnabled as error:
        raise UserError(f"{flag('upload')} {name}: HF_HUB_OFFLINE is set; {folder} is written") from error
    except Exception as error:  # the client lets through errors of its HTTP library, which it has changed before
        raise UserError(f"{flag('upload')} {name}: failed ({shown(error, 200)}); {folder} is written") from error
    return str(address)
