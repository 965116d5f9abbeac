"""The quick look at a document that lmrun reads on every start.

What fits needs no JSON Schema, whose library costs a start 0.09 s of CPU; what does not fit is
checked by the schema, which then says what is wrong.
"""

from typing import Annotated, Any, Literal

import msgspec

_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class FileShape(msgspec.Struct, forbid_unknown_fields=True):
    """A file with its stamp and digest."""

    size: _Count
    mtime_ns: int
    inode: _Count
    sha256: _Digest


class ManifestShape(msgspec.Struct, forbid_unknown_fields=True):
    """`manifest.json`."""

    schema_version: Literal[1]
    stage: Annotated[str, msgspec.Meta(pattern="^[a-z_]+$")]
    code_version: Annotated[int, msgspec.Meta(ge=1)]
    fingerprint: _Digest
    numeric_class: dict[str, Any] | None
    inputs: dict[str, str]
    config: dict[str, Any]
    files: dict[str, FileShape]
    versions: dict[str, str]
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    metrics: dict[str, Any]
    model_name: str | msgspec.UnsetType = msgspec.UNSET


class DigestsShape(msgspec.Struct, forbid_unknown_fields=True):
    """`digests.json`."""

    schema_version: Literal[1]
    files: dict[str, FileShape]


def fits(document: Any, shape: type[msgspec.Struct]) -> bool:  # noqa: ANN401 - not yet checked
    """Whether a document is of this shape; then its schema holds too."""
    try:
        msgspec.convert(document, shape, strict=True)
    except msgspec.ValidationError:
        return False
    return True
