#!/bin/sh
# Sets an instance up as a container host. Idempotent: runs at every start of the instance, and again a minute after a
# failure. DATA_DEVICE, PATIENCE (seconds) and the variables of aws_request.py are for tests.
set -eu
here=$(dirname "$0")
set -a
# shellcheck source=/dev/null
. "${HOST_ENV:-/etc/open-webui-edge/host.env}"
: "${PATIENCE:=600}"
set +a
export DEBIAN_FRONTEND=noninteractive
packages="docker.io unattended-upgrades"
key=/etc/ssh/open-webui-edge_host_ed25519_key

say() {
    echo "open-webui-edge: $*" >&2
}

doing=starting
ended() {
    [ "$1" = 0 ] || say "FAILED: $doing (exit code $1); the lines above say why"
}
trap 'ended $?' EXIT

step() {
    doing=$*
    say "$doing"
}

# Retries a command until it succeeds or the time is over. Arguments: its purpose, and the command.
retry() {
    what=$1
    shift
    deadline=$(($(date +%s) + PATIENCE))
    until "$@"; do
        if [ "$(date +%s)" -ge "$deadline" ]; then
            say "waited $PATIENCE seconds for $what"
            return 1
        fi
        sleep 2
    done
}

# Without this key sshd has none and refuses connections: no client ever sees an unexpected key.
install_host_key() {
    python3 "$here/host_key.py" "$key"
    rm -f /etc/ssh/ssh_host_*
    mkdir -p /run/sshd
    # Many connections at once are no attack here. Older versions do not know the option.
    if /usr/sbin/sshd -t -o PerSourcePenalties=no 2> /dev/null; then
        echo "PerSourcePenalties no" > /etc/ssh/sshd_config.d/01-open-webui-edge.conf
    fi
    /usr/sbin/sshd -t
    restart_ssh
}

restart_ssh() {
    if [ ! -d /run/systemd/system ]; then
        service ssh restart
        return
    fi
    # Starts without a key may have reached systemd's start limit.
    systemctl reset-failed ssh.service ssh.socket 2> /dev/null || true
    if systemctl is-enabled --quiet ssh.socket 2> /dev/null; then
        systemctl stop ssh.service
        systemctl restart ssh.socket
    else
        systemctl restart ssh.service
    fi
}

# With NVMe by the volume's id; with Xen only by the device name of its attachment.
data_device() {
    serial=$(echo "$DATA_VOLUME" | tr -d -)
    for candidate in ${DATA_DEVICE:-"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$serial" \
        "$DATA_DEVICE_NAME" "/dev/xvd${DATA_DEVICE_NAME#/dev/sd}"}; do
        if [ -b "$candidate" ]; then
            readlink -f "$candidate"
            return 0
        fi
    done
    return 1
}

mount_data_volume() {
    if mountpoint -q "$DATA_MOUNT"; then
        return 0
    fi
    retry "the volume to be attached" data_device > /dev/null
    device=$(data_device)
    code=0
    blkid -p "$device" > /dev/null || code=$?
    # 2: no file system, no partition table, no other known content.
    if [ "$code" = 2 ]; then
        if ! cmp -s -n 1048576 "$device" /dev/zero; then
            say "$device has no file system and is not blank; it is left as it is"
            return 1
        fi
        say "$device is blank and gets a file system"
        mkfs.ext4 -q -m 1 "$device"
    fi
    if [ "$(blkid -p -s TYPE -o value "$device")" != ext4 ]; then
        say "$device holds something else than ext4; it is left as it is"
        return 1
    fi
    line="UUID=$(blkid -p -s UUID -o value "$device") $DATA_MOUNT ext4 defaults,nofail,x-systemd.growfs 0 2"
    {
        grep -sv " $DATA_MOUNT " /etc/fstab || true
        echo "$line"
    } > /etc/fstab.new
    mv /etc/fstab.new /etc/fstab
    mkdir -p "$DATA_MOUNT"
    mount "$DATA_MOUNT"
}

installed() {
    for package in $packages; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q "ok installed" || return 1
    done
    command -v docker > /dev/null
}

install_packages() {
    apt-get -qq -o DPkg::Lock::Timeout=300 update || return 1
    client=
    # A separate package in Debian, part of the engine's in Ubuntu.
    if apt-cache show docker-cli > /dev/null 2>&1; then
        client=docker-cli
    fi
    # shellcheck disable=SC2086  # a word each
    apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \
        install --yes --no-install-recommends $packages $client
}

engine_answers() {
    docker version > /dev/null 2>&1
}

step "installing the host key of ssh"
install_host_key
step "mounting the data volume $DATA_VOLUME"
mount_data_volume
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
step "installing $packages"
installed || retry "packages" install_packages
step "starting the engine"
usermod -aG docker "$LOGIN_USER"
service docker start
retry "the engine to answer" engine_answers
if [ -d /run/systemd/system ]; then
    step "starting the metrics timer"
    systemctl enable --quiet --now open-webui-edge-metrics.timer
fi
mkdir -p /run/open-webui-edge
: > /run/open-webui-edge/ready
say "READY"
