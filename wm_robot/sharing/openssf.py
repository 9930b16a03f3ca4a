"""OpenSSF model signing of folders, with an elliptic-curve key and without a network."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_robot.errors import ConfigError, MissingExtraError, SnapshotError

if TYPE_CHECKING:
    from model_signing import hashing

SIGNATURE_FILE = "model.sig"
"""File in the folder that holds its signature; it is not signed itself."""
UNSIGNED_NAMES = {".git", ".github", ".gitattributes", ".gitignore"}
"""Names that the format leaves out by default."""
MAX_FOLDER_BYTES, MAX_FILES = 1 << 28, 1000
"""Bytes of a folder, and files in it."""
MAKE_KEY_COMMAND = (
    "openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem; "
    "openssl ec -in KEY.pem -pubout -out PUBLIC.pem"
)


def make_signer(private_key: Path) -> Callable[[Path], None]:
    """Return a function that signs all files of a folder and writes the signature into it.

    Args:
        private_key: PEM of a key on a NIST curve; the format has no Ed25519 key.

    Raises:
        ConfigError: If the file holds no such key.
        MissingExtraError: If model-signing is not installed.
    """
    signing = _import_model_signing().signing
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
    # AttributeError: the library reads the curve of a key that has none.
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{private_key} holds no key on a NIST curve: {error}. Make one: {MAKE_KEY_COMMAND}"
        ) from error
    config.set_hashing_config(_make_hashing_config())
    return lambda folder: config.sign(folder, folder / SIGNATURE_FILE)


def verify_folder(folder: Path, public_key: Path, *, where: Path) -> None:
    """Check that a folder holds exactly the files that the owner of a key signed.

    Args:
        where: Original of the copy, for the error.

    Raises:
        SnapshotError: If the files differ, or there is no signature.
        ConfigError: If the key is no public key on a NIST curve.
        MissingExtraError: If model-signing is not installed.
    """
    verifying = _import_model_signing().verifying
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{public_key} holds no public key on a NIST curve: {error}") from error
    if not (folder / SIGNATURE_FILE).is_file():
        raise SnapshotError(
            f"{where} has no {SIGNATURE_FILE}. Fetch it again, or add --unsigned if you trust its origin"
        )
    try:
        config.set_hashing_config(_make_hashing_config()).verify(folder, folder / SIGNATURE_FILE)
    except Exception as error:
        # A foreign reader may raise any error on bytes that are not verified yet.
        raise SnapshotError(
            f"{where} is not what the owner of {public_key} signed: {type(error).__name__}: {error!s:.200}"
        ) from error


@contextmanager
def open_private_copy(folder: Path) -> Iterator[Path]:
    """Yield a private copy, which no other process can change between verification and reading; deleted at the end.

    Raises:
        SnapshotError: If it holds a link or anything else that is no file, or too many files or bytes.
    """
    with tempfile.TemporaryDirectory() as place:
        copy, left = Path(place) / "copy", MAX_FOLDER_BYTES
        copy.mkdir()
        for number, path in enumerate(_iterate_files(folder)):
            left -= path.lstat().st_size
            if path.is_symlink() or not path.is_file() or left < 0 or number >= MAX_FILES:
                raise SnapshotError(
                    f"{path} is no file, or more than {MAX_FOLDER_BYTES} bytes or {MAX_FILES} files are in {folder}"
                )
            target = copy / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target, follow_symlinks=False)
        yield copy


def _iterate_files(folder: Path) -> Iterator[Path]:
    """Yield all files; a link to a folder is not followed."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = [name for name in folders if here != folder or name not in UNSIGNED_NAMES]
        links = [name for name in folders if (here / name).is_symlink()]
        yield from (here / name for name in (*names, *links) if here != folder or name not in UNSIGNED_NAMES)


def _make_hashing_config() -> "hashing.Config":
    config: hashing.Config = _import_model_signing().hashing.Config()
    return config.set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=True)


def _import_model_signing() -> Any:
    try:
        import model_signing
    except ImportError as error:
        raise MissingExtraError("a signature in the OpenSSF format", "openssf") from error
    return model_signing
