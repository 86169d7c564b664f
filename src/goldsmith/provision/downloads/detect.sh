#!/bin/bash
# Made by goldsmith for the time of a build. apt runs it and reads from it which proxy is to be used for the URI $1
# (apt.conf(5), Acquire::http::Proxy-Auto-Detect): ours where it can fetch that, DIRECT where it cannot, and where
# somebody else has given apt a proxy, nothing: apt goes on as if this were not there.
{
  read -r _ _ _ caller _ < "/proc/$PPID/stat"
  if grep -qiz 'acquire::http::proxy' "/proc/$PPID/cmdline" "/proc/$caller/cmdline"; then exit; fi
  if [ -n "$http_proxy" ]; then exit; fi
  eval "$(apt-config shell given Acquire::http::Proxy other Acquire::http::ProxyAutoDetect)"
  if [ -n "$other" ]; then exec "$other" "$1"; fi
  if [ -n "$given" ]; then exit; fi
  answer=
  { printf 'GET /reach/%s HTTP/1.0\r\n\r\n' "$1" >&3 && IFS=$'\r' read -r -t 10 answer _ <&3; } \
    3<>/dev/tcp/127.0.0.1/@PORT@
} 2>/dev/null
if [ "${answer#HTTP/1.? }" = "200 goldsmith" ]; then echo http://127.0.0.1:@PORT@/; else echo DIRECT; fi
