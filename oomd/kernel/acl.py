"""POSIX access control lists of files, as far as one more group is concerned; acl(5), linux/posix_acl_xattr.h.

The owner of a file may set its list without CAP_CHOWN, which giving the file to a group that he is not in would take.
"""

from __future__ import annotations

import os
import struct

ACCESS = "system.posix_acl_access"
_VERSION = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
"""Tag, permissions, id."""
_OWNER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_READ_WRITE = 6


def grant_group(path: str, gid: int) -> None:
    """Owner and this group may read and write, nobody else. Raises OSError (EOPNOTSUPP where the file system has no
    lists).
    """
    entries = (
        (_OWNER, _READ_WRITE, _NO_ID),
        (_OWNING_GROUP, 0, _NO_ID),
        (_GROUP, _READ_WRITE, gid),
        (_MASK, _READ_WRITE, _NO_ID),
        (_OTHER, 0, _NO_ID),
    )
    data = _VERSION.pack(2) + b"".join(_ENTRY.pack(*entry) for entry in entries)
    os.setxattr(path, ACCESS, data, follow_symlinks=False)


def granted_groups(path: str) -> tuple[int, ...]:
    """The groups that the file's list names; none where it has none."""
    try:
        data = os.getxattr(path, ACCESS, follow_symlinks=False)
    except OSError:
        return ()
    entries = data[_VERSION.size :]
    whole = entries[: len(entries) // _ENTRY.size * _ENTRY.size]
    return tuple(identity for tag, allowed, identity in _ENTRY.iter_unpack(whole) if tag == _GROUP and allowed)
