# Shared by the HTTP benchmarks, after common.sh: a local nginx that answers 200, and the tests' own server, whose
# paths tell what it does (test/t/HttpServer.pm).

# nginx_start: sets NGINX_URL
nginx_start() {
	command -v nginx >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install nginx-light >/dev/null 2>&1 ||
		fail "nginx is needed for this benchmark"
	local port=$((40000 + RANDOM % 10000))
	mkdir -p "$LIB_DIR/nginx"
	chmod 777 "$LIB_DIR/nginx"
	cat >"$LIB_DIR/nginx/conf" <<CONF
daemon off;
worker_processes 1;
pid $LIB_DIR/nginx/pid;
error_log $LIB_DIR/nginx/error.log;
events { worker_connections 4096; }
http {
	access_log off;
	keepalive_requests 100000000;
	client_body_temp_path $LIB_DIR/nginx/b; proxy_temp_path $LIB_DIR/nginx/p; fastcgi_temp_path $LIB_DIR/nginx/f;
	uwsgi_temp_path $LIB_DIR/nginx/u; scgi_temp_path $LIB_DIR/nginx/s;
	server { listen 127.0.0.1:$port; location / { return 200 "ok"; } }
}
CONF
	chmod 755 "$LIB_DIR"
	nginx -c "$LIB_DIR/nginx/conf" -e "$LIB_DIR/nginx/error.log" >/dev/null 2>&1 &
	LIB_PIDS+=($!)
	NGINX_URL=http://127.0.0.1:$port/x
}

# server_start name: a server with its log in $LIB_DIR/name; sets SERVER_URL
server_start() {
	local dir=$LIB_DIR/$1
	mkdir -p "$dir"
	chmod 777 "$dir"
	pg perl -I"$ROOT/test/t" -MHttpServer -e '
		my $s = HttpServer->new(dir => $ARGV[0]);
		open(my $f, ">", "$ARGV[0]/port.new"); print $f $s->{port}; close $f;
		rename "$ARGV[0]/port.new", "$ARGV[0]/port";
		$SIG{TERM} = sub { $s->stop if $s; POSIX::_exit(0) };
		sleep 1 while 1;' "$dir" &
	LIB_PIDS+=($!)
	until [ -s "$dir/port" ]; do sleep 0.05; done
	SERVER_URL=http://127.0.0.1:$(cat "$dir/port")
}

# http_worker: its pid, once it is up
http_worker() {
	wait_sql 10 "EXISTS (SELECT FROM queue.stat_worker WHERE type = 'http' AND pid IS NOT NULL AND state <> 'starting')"
	sql "SELECT pid FROM queue.stat_worker WHERE type = 'http'"
}
rss_anon() { awk '/^RssAnon/ {print $2}' "/proc/$1/status"; }
