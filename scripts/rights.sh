#!/usr/bin/env bash
# Says which right that the tests need is missing here; nothing if they can run.
if [ "$(id -u)" != 0 ]; then
  echo "the tests need root, for the networks and disks that they make and break; run it as root, or in a privileged container"
elif ! unshare --net --mount true 2>/dev/null; then
  echo "root may not make network and mount namespaces here (CAP_SYS_ADMIN); run it in a privileged container"
elif ! unshare --mount mount -t tmpfs none /tmp 2>/dev/null; then
  echo "root may not mount file systems here (CAP_SYS_ADMIN); run it in a privileged container"
fi
