# Sourced before a block of docs/hosts.md: a throwaway sshd of this user's on the loopback, known as `lab` to the
# SSH configuration of a home that is the test's own. It ends with the shell that sourced it.
lab=$HOME/lab
mkdir -p "$HOME/.ssh" "$lab"
chmod 700 "$HOME/.ssh"
[ -s "$HOME/.ssh/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -f "$HOME/.ssh/id_ed25519"
[ -s "$HOME/lab.key" ] || ssh-keygen -q -t ed25519 -N '' -f "$HOME/lab.key"
[ -s "$HOME/lab.port" ] || python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' >"$HOME/lab.port"
port=$(cat "$HOME/lab.port")
cat >"$HOME/lab.conf" <<END
Port $port
ListenAddress 127.0.0.1
HostKey $HOME/lab.key
AuthorizedKeysFile $HOME/.ssh/id_ed25519.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
SetEnv HOME=$lab
END
cat >"$HOME/.ssh/config" <<END
Host lab
  HostName 127.0.0.1
  Port $port
  User $(id -un)
  IdentityFile $HOME/.ssh/id_ed25519
END
echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$HOME/lab.key.pub")" >"$HOME/.ssh/known_hosts"
mkdir -p /run/sshd 2>/dev/null || :
env -u LAUNCHER_HOME "$(PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v sshd)" -D -e -f "$HOME/lab.conf" 2>"$HOME/lab.log" &
sshd=$!
trap 'kill $sshd' EXIT
until grep -q 'Server listening' "$HOME/lab.log"; do kill -0 $sshd; done
