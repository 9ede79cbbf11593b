#!/usr/bin/env bash
# A small Debian with python3 for the engine at $DOCKER_HOST, made by debootstrap because the tests must
# not need an image registry. Prints its name, launcher-test/base:<digest>.
#
# The root folder is kept as a tarball in the user's cache, so that only the first run on a machine pays
# for it. How this machine reaches packages (certificates, pip's and apt's configuration) is laid over it
# when the image is made and is part of the image's digest; none of it is kept in the tarball or here.
set -eu

suite=bookworm
packages=python3,python3-venv,ca-certificates
version=1 # rises when the recipe below changes

say() { echo "base_image.sh: $*" >&2; }
cannot() { say "$*"; exit 3; }

cache=${XDG_CACHE_HOME:-$HOME/.cache}/launcher/test-engine
key=$(echo "$version $suite $packages $(uname -m)" | sha256sum | cut -c1-12)
tarball=$cache/rootfs-$key.tar.gz

mirror() { # the machine's own, when it has one for this suite
    apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -v s=$suite '$1 == s && $2 == "main" { print $3; exit }'
}

make_tarball() {
    [ "$(id -u)" = 0 ] || cannot "debootstrap needs root"
    command -v debootstrap >/dev/null || cannot "debootstrap is not here (apt-get install debootstrap)"
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/making.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    say "making the base image's root folder once, about a minute"
    debootstrap --variant=minbase --include=$packages $suite "$work/root" $(mirror) >"$work/log" 2>&1 || {
        tail -n 8 "$work/log" | sed 's#://[^/]*#://...#' >&2
        cannot "debootstrap failed"
    }
    rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/* "$work"/root/var/log/* \
        "$work"/root/usr/share/doc "$work"/root/usr/share/man "$work"/root/usr/share/locale \
        "$work"/root/etc/apt/sources.list "$work"/root/etc/apt/sources.list.d/*
    tar -C "$work/root" --numeric-owner --one-file-system -c --exclude='./dev/*' --exclude='./proc/*' . |
        gzip -1 >"$work/tarball"
    mv "$work/tarball" "$tarball"
}

lay_over() { # FOLDER: this machine's way to packages
    mkdir -p "$1/etc/ssl/certs" "$1/etc/apt/apt.conf.d"
    local file
    for file in "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt; do
        if [ -f "$file" ]; then cp -L "$file" "$1/etc/ssl/certs/ca-certificates.crt"; break; fi
    done
    # pip's settings that lead over the network; what lies in folders of this machine is not in the image.
    {
        echo '[global]'
        [ -f "$1/etc/ssl/certs/ca-certificates.crt" ] && echo 'cert = /etc/ssl/certs/ca-certificates.crt'
        python3 -m pip config list 2>/dev/null | sed -n \
            "s/^\(global\.\|:env:\.\|install\.\)\(index-url\|extra-index-url\|trusted-host\|proxy\)='\(.*\)'\$/\2 = \3/p" |
            grep -v 'file://' | sort -u -t= -k1,1
        echo 'disable-pip-version-check = true'
    } >"$1/etc/pip.conf"
    cp -rL /etc/apt/sources.list* "$1/etc/apt/" 2>/dev/null || :
    for file in /etc/apt/apt.conf.d/*; do
        grep -qiE 'proxy|Check-Valid|Check-Date|https' "$file" 2>/dev/null && cp "$file" "$1/etc/apt/apt.conf.d/" || :
    done
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
[ -s "$tarball" ] || make_tarball

over=$(mktemp -d)
trap 'rm -rf --one-file-system "$over" "${work:-$over}"' EXIT
lay_over "$over"
digest=$( (echo "$key"; cd "$over"; find . -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum | cut -c1-12)
image=launcher-test/base:$digest
if ! docker image inspect "$image" >/dev/null 2>&1; then
    rootfs=launcher-test/rootfs:$key
    docker image inspect "$rootfs" >/dev/null 2>&1 ||
        gzip -dc "$tarball" | docker import --change 'ENV LANG=C.UTF-8' - "$rootfs" >/dev/null
    printf 'FROM %s\nENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\nCOPY etc /etc\n' "$rootfs" >"$over/Dockerfile"
    DOCKER_BUILDKIT=0 docker build -q -t "$image" "$over" >/dev/null 2>"$over/log" || {
        tail -n 8 "$over/log" >&2
        cannot "the base image could not be made"
    }
fi
echo "$image"
