# What comes back from an endpoint and is kept, and payloads that are awkward to send.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $server = HttpServer->new(dir => $PostgreSQL::Test::Utils::tmp_check);
my $node = queue_node('http_text', conf => "queue.http_max_response = '4kB'");

# Registers the kind, runs one job of it and waits for the end of its only attempt.
sub attempt
{
	my ($kind, $path, %o) = @_;
	my $db = $o{db} // 'postgres';
	sql($node, "SELECT queue.register_http_handler('$kind', '" . $server->url($path) . "', max_attempts => 1" . ($o{register} // '') . ')', db => $db);
	my $id = sql($node, "SELECT queue.enqueue('$kind'" . ($o{enqueue} // '') . ')', db => $db);
	poll($node, "SELECT state IN ('completed', 'discarded') FROM queue.job WHERE id = $id", db => $db) or diag "$kind: no end";
	return $id;
}

sub keep { my ($db) = @_; return sql($node, "SELECT queue.alter_queue('default', keep_completed => '1 day')", db => $db); }

# --- text is cut between characters: the dump of a character cut in two cannot be restored
keep('postgres');
my $id = attempt('body', '/status/200?body=%C3%A9&repeat=4000');
one($node, "SELECT octet_length(result->>'body'), result->>'body' = repeat(chr(233), 2048), result->>'truncated' FROM queue.job WHERE id = $id",
	'4096|t|true', 'a body cut at http_max_response');
$id = attempt('odd_body', '/status/200?body=%E2%82%AC&repeat=4000');
one($node, "SELECT result->>'body' = repeat(chr(8364), 1365) FROM queue.job WHERE id = $id", 't', 'in the middle of a character');
$id = attempt('context', '/status/500?body=%E2%82%AC&repeat=1000');
one($node, "SELECT context = repeat(chr(8364), 333) FROM queue.job_error WHERE job_id = $id", 't', 'the context of a failed attempt');
for my $pad ('', 'x', 'xx')
{
	$id = attempt('header', '/status/200', enqueue => qq{, headers => jsonb_build_object('X-$pad' || repeat(chr(8364), 300), 'a')});
	one($node, "SELECT convert_from(convert_to(error, 'UTF8'), 'UTF8') LIKE '%X-$pad' || chr(8364) || '%', octet_length(error) BETWEEN 509 AND 511 FROM queue.job_error WHERE job_id = $id",
		't|t', "an error text with a long name ($pad)");
}
$id = attempt('invalid', '/say/500/a%FFb%00c%C3');
one($node, "SELECT context FROM queue.job_error WHERE job_id = $id", 'a?b?c', 'what is not valid becomes ?');

# not only of HTTP
sql($node, q{CREATE FUNCTION fails(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE '%', repeat(E'\u20ac', 5000); END $$});
sql($node, q{SELECT queue.register_sql_handler('fails', 'fails', max_attempts => 1)});
$id = sql($node, q{SELECT queue.enqueue('fails')});
wait_true($node, "SELECT state = 'discarded' FROM queue.job WHERE id = $id", 'an SQL handler with a long error');
one($node, "SELECT error = repeat(chr(8364), 3333) FROM queue.job_error WHERE job_id = $id", 't', 'is cut between characters');
one($node, "SELECT last_error = repeat(chr(8364), 3333) FROM queue.job WHERE id = $id", 't', 'in the job too');

# --- what an endpoint echoes of headers, secret and query is not kept where readers of the queue see it
sql($node, q{CREATE ROLE reader LOGIN; SELECT queue.grant_queue('default', 'reader', 'read')});
my $hidden = q{, secret => 'raw secret', headers => '{"Authorization": "Bearer s3cret/\"q\"", "X-Api-Key": "k3y", "X-N": "1"}'};
for my $status (200, 500)
{
	$id = attempt('echo', "/echo/$status?token=hu%73h-hush-hush-hush&x=1#top", register => $hidden, enqueue => q{, headers => '{"X-Job": "from the job"}'});
	my $kept = sql($node, $status == 200 ? "SELECT result->>'body' FROM queue.job WHERE id = $id" : "SELECT context FROM queue.job_error WHERE job_id = $id", user => 'reader');
	like($kept, qr/"x-n": "1"/, "status $status: the answer is kept");
	unlike($kept, qr/s3cret|k3y|hush|hu%73h|x=1|v1,|from the job/, 'without what was secret');
	like($kept, qr/"authorization": "\*\*\*"/, 'of which it shows that it was there');
}
$id = attempt('said', '/say/500/the%20token%20is%20s3cret%2F%22q%22', register => $hidden);
one($node, "SELECT context FROM queue.job_error WHERE job_id = $id", 'the token is ***', 'a token without its scheme');
$id = attempt('escaped', '/say/500/the%20token%20is%20s3cret%5C%2F%5C%22q%5C%22', register => $hidden);
one($node, "SELECT context FROM queue.job_error WHERE job_id = $id", 'the token is ***', 'and as JSON may have it, with its slash escaped');
$id = attempt('decoded', '/say/500/it%20was%20hush-hush-hush-hush?token=hu%73h-hush-hush-hush');
one($node, "SELECT context FROM queue.job_error WHERE job_id = $id", 'it was ***', 'a value of the query as the endpoint read it');
$id = attempt('signed', '/say/500/signed%20with%20hush%2Fhush', register => ", secret => 'hush/hush'");
one($node, "SELECT context FROM queue.job_error WHERE job_id = $id", 'signed with ***', 'the secret');
$id = attempt('within', '/say/500/the%20token%20is%201234k3y5678', register => q{, headers => '{"X-Api": "k3y", "Authorization": "Bearer 1234k3y5678"}'});
one($node, "SELECT context FROM queue.job_error WHERE job_id = $id", 'the token is ***', 'one that stands in another leaves nothing of that');
$id = attempt('first', '/say/500/s3cret%2F%22q%22%20it%20was', register => $hidden);
one($node, "SELECT context FROM queue.job_error WHERE job_id = $id", '*** it was', 'and one with which the answer begins');
my $long = 's3cret' x 1000;
$id = attempt('cut', '/echo/500', register => qq{, headers => '{"Authorization": "Bearer $long"}'});
one($node, qq{SELECT context ~ '"authorization": "[*]{3}\$', context ~ 's3' FROM queue.job_error WHERE job_id = $id}, 't|f', 'and one that http_max_response cuts');
$id = attempt('half', '/half/the%20token%20is%20s3cret', register => $hidden);
one($node, "SELECT context FROM queue.job_error WHERE job_id = $id", 'the token is ***', 'and one in which the answer breaks off');

# as others write it: [what the header has, what the answer says, what is kept of that]
my $n = 0;
for my $case (
	[ 'k3yk3', 'it was k3yk3yk3k3y', 'it was ***k3y', 'one that begins in its own end' ],
	[ 'key<&>', '"was key\\u003c\\u0026\\u003E"', '"was ***"', 'JSON that HTML may hold' ],
	[ "k\xc3\xa9y \xf0\x9f\x98\x80", '"k\\u00e9y \\ud83d\\ude00 \\ud83d\\n \\u00e9"', '"*** \\ud83d\\n \\u00e9"', 'JSON in ASCII' ],
	[ q{<key> & "it's"}, 'was &lt;key&gt; &amp; &quot;it&#39;s&quot; &amp; more', 'was *** &amp; more', 'HTML' ],
	[ q{<key>'}, 'was &#60;key&#x3E;&apos; &#xy; &#99999999; & C:\\key\\ux', 'was *** &#xy; &#99999999; & C:\\key\\ux', 'and by numbers' ],
	[ 'theme=dark; id="0123456789abcdef"', 'id 0123456789abcdef and the dark theme', 'id *** and the dark theme', 'a part of a value' ],
	[ 'key\\u0041', 'was key\\u0041', 'was ***', 'one that looks as if it were escaped' ],
	[ 'key<&', 'was key\\u00', 'was ***', 'cut in an escape', 'half' ],
	[ 'key<&', 'was key\\u003c\\', 'was ***', 'cut at the beginning of one', 'half' ],
	[ 'key<&', 'was key&lt;&am', 'was ***', 'cut in one of HTML', 'half' ],
	[ "key \xf0\x9f\x98\x80", 'was key \\ud83d\\ude', 'was ***', 'cut in a character of two', 'half' ],
	[ 'key<&', 'Tom & Jer', 'Tom & Jer', 'and what only looks so', 'half' ])
{
	my ($value, $said, $kept, $name, $how) = @$case;
	my $path = '/' . ($how // 'say/500') . '/' . ($said =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger);
	$id = attempt('written' . $n++, $path, register => sprintf(', headers => jsonb_build_object($$X-Key$$, convert_from($$%s$$, $$UTF8$$))',
		$value =~ s/([^A-Za-z0-9])/sprintf '\\%03o', ord $1/ger));
	one($node, "SELECT context FROM queue.job_error WHERE job_id = $id", $kept, "a secret in an answer: $name");
}

# --- while one answer is looked through nothing is sent: of one that would take too long nothing is kept
my $parts = "(SELECT string_agg(md5(i::text), ' ') FROM generate_series(1, 240) i)";
for my $case ([ 8, 4096, 'some parts of headers are looked for' ], [ 80, 3, 'not any number of them' ])
{
	my ($headers, $length, $name) = @$case;
	$id = attempt("parts$headers", '/status/200?body=said&repeat=1024', enqueue => ", headers => (SELECT jsonb_object_agg('x-' || h, $parts) FROM generate_series(1, $headers) h)");
	one($node, "SELECT length(result->>'body') FROM queue.job WHERE id = $id", $length, $name);
}

# --- a database in another encoding
sql($node, q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'});
queue_install($node, 'latin');
keep('latin');
$id = attempt('latin', '/say/200/a%C3%A9%FFb', db => 'latin');
one($node, "SELECT result->>'body' FROM queue.job WHERE id = $id", 'a??b', 'LATIN1: what is not ASCII becomes ?', db => 'latin');

# --- what was kept can be dumped and restored
my $dump = $PostgreSQL::Test::Utils::tmp_check . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
sql($node, q{CREATE DATABASE copy TEMPLATE template0});
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('copy') ], 'and restore');

$server->stop;
$node->stop('fast');
log_clean($node);
done_testing();
