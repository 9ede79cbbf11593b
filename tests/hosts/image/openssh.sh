# The first process of an OpenSSH host. What kind of host it is stands in BOX_* (see tests/hosts/boxes.py).
# Says its host keys, one a line, before it serves: where sshd speaks, or an engine may turn the two round.
set -eu
for kind in ed25519 ${BOX_MORE_KEYS:-}; do
    ssh-keygen -q -t "$kind" -N '' -f "/etc/ssh/ssh_host_${kind}_key"
done
mkdir -p /etc/ssh/keys
echo "${BOX_KEY:-}" >/etc/ssh/keys/dev
if [ -n "${BOX_GPUS:-}" ]; then
    cp /opt/box/nvidia-smi /usr/local/bin/nvidia-smi && chmod 755 /usr/local/bin/nvidia-smi
    mkdir -p /run/gpus
fi
{
    echo "Port ${BOX_PORT:-22}"
    for kind in ed25519 ${BOX_MORE_KEYS:-}; do echo "HostKey /etc/ssh/ssh_host_${kind}_key"; done
    echo 'AuthorizedKeysFile /etc/ssh/keys/%u'
    echo 'UsePAM no'
    echo 'PermitRootLogin no'
    echo 'Subsystem sftp /usr/lib/openssh/sftp-server'
    if [ -n "${BOX_PASSWORD:-}" ]; then
        echo 'PubkeyAuthentication no'
    else
        echo 'PasswordAuthentication no'
    fi
    # Every program of a session sees another clock, files' times included; time that passes stays true.
    [ -z "${BOX_CLOCK_S:-}" ] || echo "SetEnv LD_PRELOAD=/opt/box/clock.so BOX_CLOCK_S=$BOX_CLOCK_S"
} >/etc/ssh/sshd_config
[ -z "${BOX_PASSWORD:-}" ] || echo "dev:$BOX_PASSWORD" | chpasswd
unset BOX_KEY BOX_PASSWORD
cat /etc/ssh/ssh_host_*_key.pub >&2
exec /usr/sbin/sshd -D -e
