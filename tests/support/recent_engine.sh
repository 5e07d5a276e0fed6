# Serves ROOT/sock/docker.sock: the Docker engine of the Debian system in the folder ROOT, with its data in DATA.
# Runs in the network namespace that it is started in. Arguments: ROOT DATA CHECKOUT.
set -eu
root=$1 data=$2 checkout=$3
# A container's root is changed by pivot_root, which a chroot refuses: the system's folder becomes the root of a mount
# namespace. The mounts are seen by this process and its children alone, and go with them.
mount --bind "$root" "$root"
mount --bind "$data" "$root/var/lib/docker"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
# Tests lend containers files of their own folders, which are below /tmp, and of the checkout.
mount --bind /tmp "$root/tmp"
mkdir -p "$root$checkout"
mount --bind "$checkout" "$root$checkout"
cp /etc/resolv.conf "$root/etc/resolv.conf"
cd "$root"
pivot_root . old
umount --lazy /old
# What the last engine left when it was killed would keep this one from starting.
rm -f /sock/docker.sock
exec dockerd --pidfile=/run/docker.pid >>/sock/log 2>&1
