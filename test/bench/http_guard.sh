#!/bin/bash
# 169.254.169.254, where clouds keep their secrets, on the loopback interface of a network namespace of our own, with a
# listener that must see no connection: literal, decimal, mapped and named forms, a name that changes between attempts,
# a redirect; then with allowed networks set.  Needs root.
if [ "${QUEUE_GUARD_INSIDE:-}" != yes ]; then
	[ "$(id -u)" = 0 ] || { echo "http_guard needs root"; exit 0; }
	# build outside, where packages can be installed
	"$(dirname "$0")/../install.sh" >/dev/null
	QUEUE_GUARD_INSIDE=yes exec unshare --net --mount "$0" "$@"
fi
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/http.sh"
ip link set lo up
ip addr add 169.254.169.254/32 dev lo
cp /etc/hosts /tmp/queue-guard-hosts.$$
mount --bind /tmp/queue-guard-hosts.$$ /etc/hosts
rm -f /tmp/queue-guard-hosts.$$.unused
echo "169.254.169.254 metadata.example" >>/etc/hosts
echo "127.0.0.1 changing.example" >>/etc/hosts

bench_start "The address guard of HTTP handlers"
server_start good
good=$SERVER_URL
port=${good##*:}
mkdir -p "$LIB_DIR/bad"
chmod 777 "$LIB_DIR/bad"
pg perl -I"$ROOT/test/t" -MHttpServer -e '
	my $s = HttpServer->new(dir => $ARGV[0], host => "169.254.169.254", port => $ARGV[1]);
	open(my $f, ">", "$ARGV[0]/port"); print $f $s->{port}; close $f;
	$SIG{TERM} = sub { $s->stop if $s; POSIX::_exit(0) };
	sleep 1 while 1;' "$LIB_DIR/bad" "$port" &
LIB_PIDS+=($!)
until [ -s "$LIB_DIR/bad/port" ]; do sleep 0.05; done
# it listens: seen from outside of the worker
perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(PeerAddr => "169.254.169.254", PeerPort => $ARGV[0])' "$port" || fail "no listener"

# attempt url: the error of one attempt, or "completed"
attempt() {
	local id
	sql "SELECT queue.register_http_handler('k', '$1', max_attempts => ${2:-1}, timeout => '2 s', backoff => '{\"type\": \"fixed\", \"base\": \"2 s\"}')" >/dev/null
	id=$(sql "SELECT queue.enqueue('k')")
	[ -z "${3:-}" ] || { wait_sql 10 "(SELECT attempt = 1 FROM queue.job WHERE id = $id)"; eval "$3"; }
	wait_sql 20 "NOT EXISTS (SELECT FROM queue.live_job WHERE id = $id)"
	sql "SELECT coalesce((SELECT error FROM queue.job_error WHERE job_id = $id ORDER BY attempt DESC LIMIT 1), 'completed')"
}
refused() { case $(attempt "$@") in *"refused by queue.http_allowed_networks"*) echo 1 ;; *) echo 0 ;; esac; }

for host in 169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 '[::ffff:169.254.169.254]' metadata.example; do
	figure "$host is refused, and the error names the guard" "$(refused "http://$host:$port/status/200")" -eq 1
done
case $(attempt "$good/redirect?to=http%3A%2F%2F169.254.169.254%3A$port%2Fstatus%2F200") in *302*) followed=0 ;; *) followed=1 ;; esac
figure "a redirect there is not followed" "$followed" -eq 0
# changes between the first attempt (which fails with 500) and the second
change() { sed 's/^127.0.0.1 changing/169.254.169.254 changing/' /etc/hosts >"$LIB_DIR/hosts"; cat "$LIB_DIR/hosts" >/etc/hosts; sql "SELECT pg_terminate_backend(pid) FROM queue.stat_worker WHERE type = 'http'" >/dev/null; }
figure "a name that changes to it between two attempts is refused" "$(refused "http://changing.example:$port/status/500" 2 change)" -eq 1
sql "ALTER SYSTEM SET queue.http_allowed_networks = '10.0.0.0/8'" >/dev/null
sql "SELECT pg_reload_conf()" >/dev/null
sleep 0.5
for host in 127.0.0.1 localhost 169.254.169.254 metadata.example; do
	figure "with 10.0.0.0/8 allowed, $host is refused" "$(refused "http://$host:$port/status/200")" -eq 1
done
figure "connections that the listener at 169.254.169.254 saw from the worker" "$(grep -c what=request "$LIB_DIR/bad/http.log" || true)" -eq 0
bench_end
