# Runs in the guest on the console's terminal, which is raw: makes many programs of one line of bytes (session.py).
# To us, by lines `LENGTH KIND [ID [DATA]]`, where LENGTH is that of what follows it:
#   a collect DATA bytes of base64, which come right after the line
#   n begin a program, whose script was collected     i what was collected is its input     z its input ends
#   o e one more piece of its output, of its complaints may come     s send it signal DATA     r forget it
#   k say `+` when all so far is done     p whoever speaks is there     q the end
# From us, by lines: s ID begun     o, e ID LENGTH DATA     c ID CODE input was taken     x ID CODE ended
#   r ID forgotten     ! REASON why it ends
set -f
umask 077
exec 2>/dev/null
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
d=$(mktemp -d /run/goldsmith.XXXXXX || mktemp -d) && mkfifo "$d/turn" && exec 3<>"$d/turn" || exit
echo >&3
if [ "$(echo | base64 -w 0)" = Cg== ]; then enc() { base64 -w 0; }; else enc() { base64 | tr -d '\n'; }; fi
if dd if=/dev/null iflag=fullblock count=0; then take() { dd bs="$1" count=1 iflag=fullblock; }
else take() { dd bs=1 count="$1"; }; fi
say() { read -r _ <&3; printf '%s\n' "$*"; echo >&3; }
pump() {
  while read -r _ <&4; do
    c=$(dd bs=@PIECE@ count=1 | enc)
    [ -n "$c" ] && [ -d "$d/$2" ] || break
    say "$1 $2 ${#c} $c"
  done
  say "$1 $2 0"
}
keep() {
  p=$d/$1
  exec 6<>"$p/ctl" 7<>"$p/ack.o" 8<>"$p/ack.e" </dev/null
  base64 -d <"$d/x$1" >"$p/cmd"
  : >"$d/x$1"
  for _ in @CREDITS@; do echo >&7; echo >&8; done
  pump o "$1" 4<&7 <"$p/out" &
  pump e "$1" 4<&8 <"$p/err" &
  {
    setsid sh "$p/cmd" <"$p/in" >"$p/out" 2>"$p/err" 3>&- 4>&- 6>&- 7>&- 8>&- &
    echo $! >"$p/pid"
    say "s $1"
    wait $!
    say "x $1 $?"
  } &
  exec 5>"$p/in"
  while read -r what <&6; do
    case $what in
      i) base64 -d <"$d/x$1" >&5; n=$?; : >"$d/x$1"; say "c $1 $n" ;;
      z) exec 5>&- ;;
      r) break ;;
    esac
  done
  rm -rf "$p" "$d/x$1"
  echo >&7
  echo >&8
  say "r $1"
}
fini() {
  set +f
  for s in TERM KILL; do
    for f in "$d"/*/pid; do [ -e "$f" ] && kill -s $s -- "-$(cat "$f")" && n=1; done
    [ "$n" ] && [ $s = TERM ] && sleep 1
  done
  rm -rf "$d"
  kill -s KILL $$
}
(while sleep @WATCH@; do rm "$d/alive" || fini; done) >/dev/null </dev/null &
: >"$d/alive"
say ready
cat | {
  trap : HUP
  while read -r length line; do
    [ "${#line}" = "$length" ] || { say "! ${#line} characters came instead of $length"; break; }
    set -- $line
    case $1 in
      a) take "$3" >>"$d/x$2" ;;
      n) p=$d/$2; mkdir "$p" && mkfifo "$p/in" "$p/out" "$p/err" "$p/ctl" "$p/ack.o" "$p/ack.e"
         keep "$2" & ;;
      i | z | r) [ $1 = r ] && kill -s KILL -- "-$(cat "$d/$2/pid")"; echo $1 >"$d/$2/ctl" ;;
      o | e) echo >"$d/$2/ack.$1" ;;
      s) kill -s "$3" -- "-$(cat "$d/$2/pid")" ;;
      p) : >"$d/alive" ;;
      q) break ;;
      k) say + ;;
      *) say "! it does not know $1"; break ;;
    esac
  done
  fini
}
