# The first process of a dropbear host. What kind of host it is stands in BOX_* (see tests/hosts/boxes.py).
# Says its host key, a line, before it serves: where dropbear speaks, or an engine may turn the two round.
set -eu
home=$(awk -F: '$1 == "dev" { print $6 }' /etc/passwd)
mkdir -p /etc/dropbear "$home/.ssh"
chown 1000:1000 "$home"
echo "${BOX_KEY:-}" >"$home/.ssh/authorized_keys"
chown -R 1000:1000 "$home/.ssh"
chmod 700 "$home/.ssh"
chmod 600 "$home/.ssh/authorized_keys"
if [ -n "${BOX_GPUS:-}" ]; then
    cp /opt/box/nvidia-smi /usr/bin/nvidia-smi && chmod 755 /usr/bin/nvidia-smi
    mkdir -p /run/gpus
fi
dropbearkey -t ed25519 -f /etc/dropbear/key | grep '^ssh-' >&2
unset BOX_KEY
exec dropbear -F -E -s -r /etc/dropbear/key -p "${BOX_PORT:-22}"
