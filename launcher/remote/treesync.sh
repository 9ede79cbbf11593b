# The far side of a push: keeps the trees it was sent, and makes a run its own copy of one. For any POSIX sh.
#
# <base>/<kind>/<key>/  g.<want>  a generation: tree/, list.gz (what it holds), stamp (how it looked when made),
#                                 spare/ (a copy that the next run takes by a rename instead of waiting for one),
#                                 stamping (who makes the stamp, until it is there)
#                       s.<want>.<pid>.<token>  what arrives; becomes a generation by one rename
#                       c.<pid>  a spare that was taken before it was known what is wanted
#                       x.*  what nobody needs any more
# A generation's name tells its content, so two pushes of one tree cannot disagree about it.
# What is wanted and where comes as three more words, or on three lines once it is known; meanwhile the spare
# that will most likely do is looked at.
# Says "done", "fail WHY", or "need OLD BYTES BYTES" with what it has; then takes a line and an archive.
# shellcheck disable=SC2046 # what is split here is meant to be
base=$1 kind=$2 key=$3 want=$4 token=$5 to=$6
LC_ALL=C EXTRACT_UNSAFE_SYMLINKS=1
export LC_ALL EXTRACT_UNSAFE_SYMLINKS
umask 022

say() { printf 'launcher: %s\n' "$*"; }
die() { say "fail $*"; exit 3; }

alive() { # pid, word: whether that very push still goes on (a pid alone may be another's by now)
  kill -0 "$1" 2>/dev/null || return 1
  [ -r "/proc/$1/cmdline" ] || return 0
  case $(tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null) in *"$2"*) return 0 ;; esac
  return 1
}

listing() { # one line or more for each thing below $1, with all that a change there would alter
  cd "$1" || return 1
  case $way in
    printf) find . -type d -printf '%y %m %P\n' -o -printf '%y %m %s %T@ %l %P\n' ;;
    stat)
      find . -type d -exec stat -c '%f %n' {} +
      find . ! -type d -exec stat -c '%f %s %y %n' {} + ;;
    *)
      find . -type d
      find . -type l
      find . -type f -perm -100
      find . -type f -exec sha256sum {} + ;;
  esac
}
digest() { (listing "$1") 2>/dev/null | sort | sha256sum; }
like() { # tree, its generation
  while [ ! -f "$2/stamp" ] && [ -f "$2/stamping" ] && alive "$(cat "$2/stamping")" "$key"; do
    sleep 0.1 2>/dev/null || sleep 1
  done
  [ -f "$2/stamp" ] && [ "$(cat "$2/stamp")" = "$way $(digest "$1")" ]
}
stamp() { # while nobody waits for it any more
  cd "$k/$gen" && echo "$way $(digest tree)" >stamp.part && mv stamp.part stamp
  rm -f stamping
}
intact() { like "$1/tree" "$1"; }

sizes() { # of the files below $1: "12 ./name" and NUL
  cd "$1" || return 1
  case $way in
    printf) find . -type f -printf '%s %p\0' ;;
    stat) find . -type f -exec stat -c '%s %n' {} + | tr \\n \\0 ;;
    *) find . -type f -exec wc -c {} + | tr \\n \\0 ;;
  esac
}

had() { # of what arrived before a cut
  (sizes "$1/tree")
  [ ! -d "$1/beside" ] || (sizes "$1/beside/tree")
}

newest() { # generations, the youngest first
  # shellcheck disable=SC2012 # these names are our own
  ls -1td g.* 2>/dev/null
}
# Where hard links cannot be made a copy does as well.
twin() { cp -al "$1" "$2" 2>/dev/null || { rm -rf "$2" && cp -RPp "$1" "$2"; }; }
merge() { cp -al "$1/." "$2/" 2>/dev/null || cp -RPp "$1/." "$2/"; }
share() { case $(cp --help 2>&1) in *--reflink*) echo --reflink=auto ;; esac }
own() { cp -RPp $(share) "$1" "$2"; }
drop() { (cd "$1" && xargs -0 rm -rf -- <"$2"); }
blobs() { # into $1, those named in $2: how and what ("link:mode-digest"), and path by turns; $3: all as copies
  # shellcheck disable=SC2016 # expanded by the inner shell
  (cd "$1" && xargs -0 -n 2 sh -c '
    case $2 in */*) mkdir -p "${2%/*}" || exit 255 ;; esac
    rm -rf "./$2"
    case ${0%%:*} in
      copy) mv "${0#*:}/${1#*:}.spare" "./$2" 2>/dev/null && exit ;;
      *) case ${1%%:*} in link) ln "${0#*:}/${1#*:}" "./$2" 2>/dev/null && exit ;; esac ;;
    esac
    cp -p "${0#*:}/${1#*:}" "./$2" || exit 255' "$3:$base/blobs" <"$2")
}

show() { # the run's copy by one rename, or links to what it may only read
  if [ "$kind" = trees ]; then
    if [ -e "$to" ]; then mv "$to" "$part/former" || die "$to cannot be replaced"; fi
    mv "$part/tree" "$to" || die "$to cannot be made"
    return 0
  fi
  mkdir -p "$to" || die "$to cannot be made"
  (cd "$1" && for f in * .[!.]* ..?*; do
    [ -e "$f" ] || [ -L "$f" ] || continue
    rm -rf "${to:?}/$f" && twin "./$f" "$to/$f" || exit 1
  done) || die "$to cannot be filled"
}

tidy() { # what nobody will ask for any more
  rm -rf "$part" "$k/c.$$"
  cd "$k" || return
  rm -rf x.*
  n=0
  for g in $(newest); do
    n=$((n + 1))
    if [ $n -gt 2 ] && [ -n "$(find "$g" -prune -mmin +60)" ]; then mv "$g" "x.$g" && rm -rf "x.$g"; fi
  done
  for left in s.*; do
    if [ -n "$(find "$left" -prune -mtime +2 2>/dev/null)" ]; then rm -rf "$left"; fi
  done
  for left in c.*; do alive "${left#c.}" "$key" || rm -rf "$left"; done
  for former in "$base/$kind"/*; do
    [ -n "$(find "$former" -prune -mtime +30)" ] || continue
    [ -n "$(find "$former"/* -prune -mtime -30 2>/dev/null)" ] || rm -rf "$former"
  done
  find "$base/blobs" -type f -links 1 -mtime +2 -exec rm -f {} + 2>/dev/null
}
spare() {
  cd "$k/$gen" || return
  [ "$kind" = trees ] && [ ! -e spare ] || return
  rm -rf spare.*
  size=$(du -sk tree | cut -f 1)
  set -- $(df -Pk . | tail -n 1)
  [ "$size" -lt 4194304 ] && [ $((size * 8)) -lt "$4" ] || return # the disk is not ours
  $low cp -RPp $(share) tree spare.$$ && [ ! -e spare ] && mv spare.$$ spare
}
finish() {
  (
    exec </dev/null >/dev/null 2>&1
    [ -z "$fresh" ] || stamp
    tidy
    spare
  ) &
  [ -z "$fresh" ] || echo $! >"$gen/stamping"
  say "done"
  exit 0
}

for tool in tar gzip find sort sha256sum xargs; do
  command -v $tool >/dev/null 2>&1 || die "there is no $tool on the host"
done
[ -d "$base" ] || { mkdir -p "$base" && chmod 700 "$base"; } || die "$base cannot be made"
k=$base/$kind/$key
unset low fresh early copying twinning old fit looked
mkdir -p "$k" && cd "$k" && [ -w . ] || die "$k cannot be written"
if find . -prune -printf '' 2>/dev/null; then way='printf'
elif stat -c %f . >/dev/null 2>&1; then way='stat'
else way='content'; fi
command -v nice >/dev/null 2>&1 && low='nice'

if [ $# -lt 6 ]; then
  for g in $(newest); do
    if mv "$g/spare" c.$$ 2>/dev/null && like c.$$ "$g"; then fit=$g; fi
    intact "$g" </dev/null >/dev/null 2>&1 &
    looking=$! looked=$g
    break
  done
  for left in s.*; do
    [ -d "$left" ] || continue
    had "$left" </dev/null >"$left/early" 2>/dev/null &
    listing=$! early=$left
    break
  done
  { IFS= read -r want && IFS= read -r token && IFS= read -r to; } || {
    if [ -n "$fit" ]; then mv c.$$ "$fit/spare"; else rm -rf c.$$; fi
    exit 0
  }
fi
part=$to.part.$$
mkdir -p "${to%/*}" || die "$to cannot be made"
set -- "$to".part.* # of a push that was cut
rm -rf "$@" &

ready() { # a copy that lay there and is right, into $part
  mkdir "$part" || die "$part cannot be made"
  if [ "$fit" = "$1" ]; then mv c.$$ "$part/tree"; else
    mv "$1/spare" "$part/tree" 2>/dev/null && like "$part/tree" "$1"
  fi
}
copy() { # of a generation, begun while the rest is found out
  [ "$kind" = trees ] || return 0
  mkdir "$part" || die "$part cannot be made"
  if [ "$fit" = "$1" ]; then
    mv c.$$ "$part/tree" &
  elif mv "$1/spare" "$part/tree" 2>/dev/null; then
    { like "$part/tree" "$1" || { rm -rf "$part/tree" && own "$1/tree" "$part/tree"; }; } &
  else
    cp -RPp $(share) "$1/tree" "$part/tree" &
  fi
  copying=$!
}
uncopy() {
  if [ -n "$copying" ]; then
    kill "$copying" 2>/dev/null
    wait "$copying" 2>/dev/null
  fi
  copying=
  rm -rf "$part"
}
full() { uncopy; rm -rf "${k:?}/$s"; die "$*"; } # nothing of it stays, the space may be needed
uncopied() { full "the run's copy could not be made"; }
lost() { uncopy; exit 4; }                   # the former tree, and what arrived, stay as they are

sound() { # as intact, where that was not found out already
  if [ "$looked" != "$1" ]; then intact "$1"; else
    looked=
    wait "$looking"
  fi
}

gen=g.$want
if [ -d "$gen" ]; then
  touch "$gen"
  if [ "$kind" = trees ] && ready "$gen"; then
    show
    finish
  fi
  fit=
  rm -rf "$part"
  copy "$gen"
  if sound "$gen"; then
    if [ -n "$copying" ]; then wait "$copying" || { uncopy; die "the run's copy could not be made"; }; fi
    show "$gen/tree"
    finish
  fi
  uncopy
  mv "$gen" "x.$$"
fi

for g in $(newest); do
  if sound "$g"; then old=$g; touch "$g"; break; fi
  mv "$g" "x.$$.$g"
done

s=s.$want.$$.$token
for left in s."$want".*; do
  [ -d "$left" ] || continue
  of=${left#s."$want".} pid=${left#s."$want".}
  of=${of#*.} pid=${pid%%.*}
  if alive "$pid" "$key"; then
    [ "$of" = "$token" ] || continue
    kill "$pid" 2>/dev/null # our own, over a line that broke without a word
  fi
  mv "$left" "$s" 2>/dev/null && break
done
[ -d "$s" ] && [ "$early" = "$left" ] && wait $listing || early=
beside= # the run's copy of a first tree: written as that comes, and kept like it when it breaks off
if [ "$kind" = trees ] && [ -z "$old" ]; then beside=$s/beside; else rm -rf "$s/beside"; fi
mkdir -p "$s/tree" ${beside:+"$beside/tree"} || die "$k cannot be written"
rm -rf "$s/new" "$s/list.gz" "$s/del" "$s/blobs" "$s/twice"
if [ -n "$early" ]; then cat "$s/early"; else had "$s"; fi | gzip -1 >"$s/have" || die "$k cannot be written"

listed=0
if [ -n "$old" ]; then listed=$(wc -c <"$old/list.gz"); fi
say "need ${old:--} $listed $(wc -c <"$s/have")"
[ -z "$old" ] || cat "$old/list.gz"
cat "$s/have"
if [ -n "$old" ]; then
  twin "$old/tree" "$s/new" &
  twinning=$!
  copy "$old"
fi

IFS=' ' read -r form || lost
case $form in gz | raw) ;; *) lost ;; esac
plain() { if [ "$form" = gz ]; then gzip -dc; else cat; fi; }
unpack() { tar -xof - -C "$1"; }
twice() { # instead of copying it afterwards
  mkfifo "$s/twice" || return 1
  unpack "$beside" <"$s/twice" &
  second=$!
  plain | tee "$s/twice" | unpack "$s" || { wait; return 1; }
  wait $second
}
receive() {
  if [ -n "$beside" ]; then twice
  elif [ "$form" = gz ]; then gzip -dc | unpack "$s"
  else unpack "$s"; fi
}
why=$(receive 2>&1) && [ -f "$s/list.gz" ] || {
  case $why in *"No space left"* | *uota*) full "No space left on device" ;; esac
  uncopy # what arrived stays, the next call takes it up
  die "it did not arrive whole: $(printf '%.300s' "$why" | tr '\n' ' ')"
}

if [ -n "$beside" ]; then
  mv "$beside" "$part" || uncopied
elif [ "$kind" = trees ]; then
  { wait "$copying" && drop "$part/tree" "$k/$s/del" && own "$s/tree/." "$part/tree/"; } ||
    uncopied
fi
if [ -s "$s/blobs" ]; then
  blobs "$s/tree" "$k/$s/blobs" "" || full "a big file could not be put in its place"
  if [ "$kind" = trees ]; then
    blobs "$part/tree" "$k/$s/blobs" copy || uncopied
  fi
fi
if [ -n "$old" ]; then
  wait $twinning || full "the former tree could not be taken over"
  { drop "$s/new" "$k/$s/del" && merge "$s/tree" "$s/new"; } || full "the new files could not be put in"
  { mv "$s/tree" "x.sent.$$" && mv "$s/new" "$s/tree"; } || full "the new tree could not be put in its place"
fi
rm -rf "$s/del" "$s/blobs" "$s/have" "$s/twice" "$s/early"
if [ ! -e "$gen" ]; then fresh=yes && mv "$s" "$gen" || full "the new tree could not be shown"; fi
[ ! -e "$s" ] || mv "$s" "x.$s"
show "$gen/tree"
finish
