"""Runs in a container: prints everything that can be known about every file of its root, as JSON."""

import hashlib
import json
import os
import stat

seen, device = {}, os.lstat("/").st_dev


def look(path):
    status = os.lstat(path)
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    plain = not stat.S_ISDIR(status.st_mode)  # sizes and links of directories are the filesystem's affair
    names = os.listxattr(path, follow_symlinks=False)
    return {
        "mode": oct(status.st_mode),
        "owner": [status.st_uid, status.st_gid],
        "size": status.st_size if plain else 0,
        "links": status.st_nlink if plain else 0,
        "time": status.st_mtime_ns,
        "device": status.st_rdev,
        "content": content,
        "xattrs": {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in names},
    }


for place, directories, files in os.walk("/"):
    paths = [os.path.join(place, name) for name in directories + files]
    seen.update({path: look(path) for path in paths if os.lstat(path).st_dev == device})
    directories[:] = [name for name in directories if os.lstat(os.path.join(place, name)).st_dev == device]
print(json.dumps(seen))
