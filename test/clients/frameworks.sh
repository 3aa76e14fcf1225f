#!/bin/bash
# The code of the guides as it stands there (it runs 7 blocks of doc/frameworks.md, and runs 1 block of doc/migrate/good-job.md), in
# the frameworks that are installed, and clients of pgmq on extension queue_pgmq, as TAP.  What is missing is skipped by name; nothing big is installed for it (test/install.sh), but:
#
#   Debian:  python3-sqlalchemy python3-django python3-psycopg2 ruby-activerecord ruby-activejob ruby-pg golang-go
#            golang-github-lib-pq-dev default-jdk-headless libpostgresql-jdbc-java libspring-jdbc-java elixir
#   npm:     pg, pgmq-js, fetched here; prisma @prisma/client @prisma/adapter-pg (300 MB) in ~/.cache/queue-prisma
#
# test/clients/frameworks.sh [name ...]
. "$(dirname "$0")/../lib.sh"
lib_suite
lib_start
HERE=$ROOT/test/clients
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}
FRAMEWORKS=("$@")
[ $# != 0 ] || FRAMEWORKS=(sqlalchemy django rails activejob go spring node prisma ecto pgmq_js)

n=0
ok() { n=$((n + 1)); echo "ok $n - $1"; }
not_ok() { n=$((n + 1)); echo "not ok $n - $1"; shift; printf '%s\n' "$@" | sed 's/^/#   /'; }

# block file heading language: the first block of that language below the heading
block() {
	perl -ne '
		BEGIN { ($heading, $language) = splice @ARGV, 0, 2 }
		$below = 1 if /^## \Q$heading\E$/ || $heading eq "";
		if ($in) { last if /^```$/; print; }
		elsif ($below && /^```\Q$language\E$/) { $in = 1 }' "$2" "$3" "$ROOT/doc/$1.md"
}

# The bodies of what runs them; REASON says why not.
try_sqlalchemy() {
	/usr/bin/python3 -c 'import sqlalchemy, psycopg2' 2>/dev/null || { REASON="python3-sqlalchemy or python3-psycopg2 is not installed"; return; }
	{
		cat <<-PY
			import json
			from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, text
			engine = create_engine("postgresql+psycopg2://postgres@127.0.0.1:$PGPORT/$DB")
			orders = Table("orders", MetaData(), Column("id", Integer, primary_key=True))
		PY
		block frameworks SQLAlchemy python
	} >program.py
	/usr/bin/python3 program.py
}
try_django() {
	/usr/bin/python3 -c 'import django, psycopg2' 2>/dev/null || { REASON="python3-django or python3-psycopg2 is not installed"; return; }
	{
		cat <<-PY
			import json
			import django
			from django.conf import settings
			settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": "$PGPORT", "USER": "postgres",
			                   "NAME": "$DB"}}, DEFAULT_AUTO_FIELD="django.db.models.AutoField")
			django.setup()
			from django.db import connection, models, transaction
			class Order(models.Model):
			    class Meta:
			        app_label = "shop"
			        db_table = "orders"
		PY
		block frameworks Django python
	} >program.py
	/usr/bin/python3 program.py
}
rails_head() {
	cat <<-RB
		require 'active_record'
		require 'json'
		ActiveRecord::Base.establish_connection(adapter: 'postgresql', host: '127.0.0.1', port: $PGPORT, username: 'postgres', database: '$DB')
	RB
}
try_rails() {
	ruby -e 'require "active_record"; require "pg"' 2>/dev/null || { REASON="ruby-activerecord or ruby-pg is not installed"; return; }
	{
		rails_head
		echo 'class Order < ActiveRecord::Base; end'
		block frameworks Rails ruby
	} >program.rb
	ruby program.rb
}
try_activejob() {
	ruby -e 'require "active_job"; require "active_record"; require "pg"' 2>/dev/null || { REASON="ruby-activejob, ruby-activerecord or ruby-pg is not installed"; return; }
	{
		rails_head
		echo 'require "active_job"; ActiveJob::Base.logger = nil'
		block migrate/good-job '' ruby
		cat <<-RB
			class MailJob < ActiveJob::Base
			  self.queue_adapter = QueueAdapter.new
			  def perform(order) = ActiveRecord::Base.connection.execute("INSERT INTO orders VALUES (#{order})")
			end
			MailJob.perform_later(1)
			payload = ActiveRecord::Base.connection.select_value("SELECT payload FROM queue.job")
			ActiveJob::Base.execute(JSON.parse(payload))
			raise 'a delayed job is not delayed' unless MailJob.set(wait: 1.hour).perform_later(2).provider_job_id.to_i > 0
			ActiveRecord::Base.connection.execute("SELECT queue.cancel(id) FROM queue.job WHERE state = 'scheduled'")
		RB
	} >program.rb
	ruby program.rb
}
try_go() {
	command -v go >/dev/null || { REASON="go is not installed"; return; }
	[ -d /usr/share/gocode/src/github.com/lib/pq ] || { REASON="golang-github-lib-pq-dev is not installed"; return; }
	{
		cat <<-GO
			package main

			import (
				"context"
				"database/sql"

				_ "github.com/lib/pq"
			)

			func main() {
				db, err := sql.Open("postgres", "host=127.0.0.1 port=$PGPORT user=postgres dbname=$DB sslmode=disable")
				if err != nil {
					panic(err)
				}
				if _, err := placeOrder(context.Background(), db); err != nil {
					panic(err)
				}
			}
		GO
		block frameworks Go go
	} >program.go
	GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= GOCACHE=$CACHE/queue-go go run program.go
}
try_spring() {
	local jars=/usr/share/java/postgresql.jar j
	command -v javac >/dev/null || { REASON="no JDK is installed"; return; }
	[ -f $jars ] || { REASON="libpostgresql-jdbc-java is not installed"; return; }
	for j in core beans jdbc transaction; do
		[ -f /usr/share/java/spring3-$j.jar ] || { REASON="libspring-jdbc-java is not installed (spring3-$j.jar)"; return; }
		jars+=:/usr/share/java/spring3-$j.jar
	done
	jars+=:$({ ls /usr/share/java/commons-logging.jar /usr/share/java/scram-client.jar /usr/share/java/ongres-scram*.jar 2>/dev/null || true; } | tr '\n' ':')
	{
		cat <<-JAVA
			import org.springframework.jdbc.core.JdbcTemplate;
			import org.springframework.jdbc.datasource.*;
			import org.springframework.transaction.support.TransactionTemplate;
			public class Program {
			    public static void main(String[] args) {
			        var source = new DriverManagerDataSource("jdbc:postgresql://127.0.0.1:$PGPORT/$DB?user=postgres");
			        var jdbcTemplate = new JdbcTemplate(source);
			        var json = "{\"kind\": \"mail\", \"payload\": {\"order\": 1}}";
			        new TransactionTemplate(new DataSourceTransactionManager(source)).execute(status -> {
			            jdbcTemplate.update("INSERT INTO orders DEFAULT VALUES");
		JAVA
		block frameworks 'Java, Spring' java
		echo '            return id; }); } }'
	} >Program.java
	java -XX:TieredStopAtLevel=1 -cp "$jars" Program.java
}
# packages: where they are kept, the first of them tells whether they are there
node_modules() {
	local dir=$1
	command -v node >/dev/null || { REASON="node is not installed"; return 1; }
	if [ ! -d "$dir/node_modules/${2%@*}" ]; then
		command -v npm >/dev/null || { REASON="npm is not installed"; return 1; }
		mkdir -p "$dir"
		(cd "$dir" && timeout 120 npm install --no-audit --no-fund --silent "${@:2}" >/dev/null 2>&1) || { REASON="npm install ${*:2} failed"; return 1; }
	fi
	ln -sfn "$dir/node_modules" node_modules
}
try_node() {
	node_modules "$CACHE/queue-clients" pg@8 || return 0
	{
		cat <<-JS
			import pg from 'pg';
			const client = new pg.Client({host: '127.0.0.1', port: $PGPORT, user: 'postgres', database: '$DB'});
			await client.connect();
			await client.query('BEGIN; INSERT INTO orders DEFAULT VALUES');
		JS
		block frameworks 'Node.js' js
		echo "await client.query('COMMIT'); await client.end();"
	} >program.mjs
	node program.mjs
}
try_prisma() {
	[ -d "$CACHE/queue-prisma/node_modules/@prisma/adapter-pg" ] || { REASON="@prisma/client is not installed"; return; }
	node_modules "$CACHE/queue-prisma" @prisma/client || return 0
	cat >schema.prisma <<-'PRISMA'
		generator client {
		  provider   = "prisma-client-js"
		  output     = "./generated"
		  engineType = "client"
		}
		datasource db {
		  provider = "postgresql"
		}
		model Order {
		  id Int @id @default(autoincrement())
		  @@map("orders")
		}
	PRISMA
	# no engine is downloaded: the client needs none
	PRISMA_SCHEMA_ENGINE_BINARY=/bin/true CHECKPOINT_DISABLE=1 node node_modules/prisma/build/index.js generate --schema schema.prisma >generate.log 2>&1 ||
		{ cat generate.log; return 1; }
	{
		cat <<-JS
			import { PrismaPg } from '@prisma/adapter-pg';
			import client from './generated/index.js';
			const prisma = new client.PrismaClient({adapter: new PrismaPg({host: '127.0.0.1', port: $PGPORT, user: 'postgres', database: '$DB'})});
		JS
		block frameworks Prisma js
		echo 'await prisma.$disconnect();'
	} >program.mjs
	node program.mjs
}
# No package of Ecto is to be had: only its syntax.
try_ecto() {
	command -v elixir >/dev/null || { REASON="elixir is not installed"; return; }
	block frameworks Ecto elixir >program.ex
	elixir -e 'Code.string_to_quoted!(File.read!("program.ex"))'
}
# A client of pgmq as it is, which calls everything that it has.
try_pgmq_js() {
	node_modules "$CACHE/queue-pgmq" pgmq-js@1.3.1 || return 0
	sql "CREATE EXTENSION queue_pgmq"
	cp "$HERE/pgmq.mjs" program.mjs
	PGHOST=127.0.0.1 PGUSER=postgres PGDATABASE=$DB node program.mjs
}

free() { ! (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
until free "$PGPORT"; do PGPORT=$((20000 + RANDOM % 12000)); done
cluster_init "listen_addresses = '127.0.0.1'" "fsync = off"
cluster_start

for name in "${FRAMEWORKS[@]}"; do
	export DB=$name
	DB=postgres sql "CREATE DATABASE $name"
	sql "CREATE EXTENSION queue; CREATE TABLE orders (id serial PRIMARY KEY)"
	mkdir "$LIB_DIR/$name"
	cd "$LIB_DIR/$name"
	REASON=
	rc=0
	"try_$name" >"$LIB_DIR/$name.log" 2>&1 || rc=$?
	log=$(tail -15 "$LIB_DIR/$name.log")
	cd "$LIB_DIR"
	if [ -n "$REASON" ]; then ok "$name # SKIP $REASON"; continue; fi
	if [ $rc != 0 ]; then not_ok "$name: it runs" "$log"; continue; fi
	case $name in
		ecto) ok "$name: the code is Elixir" ;;
		pgmq_js)
			while IFS= read -r line; do
				case $line in
					"ok "*) ok "pgmq-js: ${line#ok }" ;;
					*) not_ok "pgmq-js: ${line#not ok }" ;;
				esac
			done <"$LIB_DIR/$name.log"
			;;
		*)
			got=$(sql "SELECT count(*), min(id) FROM orders") got+=" $(sql "SELECT string_agg(coalesce(payload -> 'order', payload -> 'arguments' -> 0)::text, ',') FROM queue.job WHERE state <> 'cancelled'")"
			if [ "$got" = '1|1 1' ]; then ok "$name: an order and its job"; else not_ok "$name: an order and its job" "$got" "$log"; fi
			;;
	esac
done
echo "1..$n"
