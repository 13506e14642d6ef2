"""Runs in a container: the second layer removes, replaces, renames and only touches."""

import os
import shutil

os.unlink("/t/two")
os.unlink("/t/emptied/x")
shutil.rmtree("/t/gone")
shutil.rmtree("/t/opaque")
os.mkdir("/t/opaque", 0o750)
open("/t/opaque/new", "w").close()
os.unlink("/t/swap/file")
os.mkdir("/t/swap/file")
open("/t/swap/file/inside", "w").close()
os.rmdir("/t/swap/directory")
open("/t/swap/directory", "w").close()
os.unlink("/t/swap/link")
os.mkdir("/t/swap/link")
os.chown("/t/owned", 9, 9)
os.chmod("/t/moded", 0o400)
os.chmod("/t/keep", 0o700)
os.utime("/t/touched", ns=(0, 86_400_000_000_000))
os.link("/t/old", "/t/old-too")
os.rename("/t/future", "/t/later")
os.unlink("/etc/issue.net")
os.symlink("t", "/shortcut")
