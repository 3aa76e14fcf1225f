# What ruby-pg makes of parameters: everything goes as untyped text; arrays as text.
require 'json'
require 'pg'
conn = PG.connect(ENV.fetch('DATABASE_URL'))
q = ENV.fetch('QUEUE')
check = lambda do |name, text, values, expected|
  got = conn.exec_params(text, values).getvalue(0, 0)
  puts got == expected ? "ok #{name}" : "not ok #{name}: got #{got}"
rescue PG::Error => e
  puts "not ok #{name}: #{e.message.tr("\n", ' ')}"
end
list = PG::TextEncoder::Array.new(elements_type: PG::TextEncoder::String.new)
check.call('enqueue, payload as text', 'SELECT queue.enqueue($1, $2, $3) > 0', ['k', { n: 1 }.to_json, q], 't')
check.call('enqueue, delay as text', 'SELECT queue.enqueue($1, $2, $3, delay => $4) > 0', ['k', '{}', q, '1 hour'], 't')
check.call('enqueue_json', 'SELECT queue.enqueue_json($1) > 0', [{ kind: 'k', queue: q }.to_json], 't')
check.call('enqueue_many, an encoded array', 'SELECT count(*) FROM queue.enqueue_many($1, $2, $3)', ['k', list.encode(['{"n": 1}', '{}']), q], '2')
job = conn.exec_params('SELECT * FROM queue.fetch($1, $2, lease => $3)', [q, 1, '1 min'])[0]
check.call('heartbeat', 'SELECT queue.heartbeat($1, $2, $3) > now()', [job['id'], '2 min', job['attempt']], 't')
check.call('complete, a wrong attempt', 'SELECT queue.complete($1, $2)', [job['id'], 99], 'f')
check.call('complete, integers, a result', 'SELECT queue.complete($1, $2, $3)', [job['id'].to_i, job['attempt'].to_i, '{"ok": true}'], 't')
nxt = conn.exec_params('SELECT id, attempt FROM queue.fetch($1, complete_ids => $2, complete_attempts => $3)', [q, list.encode([job['id']]), list.encode([job['attempt']])])[0]
# as Rails binds: typed as text
check.call('text-typed id and attempt need casts', 'SELECT queue.complete($1::bigint, $2::int)',
           [{ value: nxt['id'], type: 25 }, { value: nxt['attempt'], type: 25 }], 't')
begin
  conn.exec_params('SELECT queue.enqueue($1, $2, $3)', [{ value: 'k', type: 25 }, { value: '{}', type: 25 }, { value: q, type: 25 }])
  puts 'not ok a payload typed as text is refused: it worked'
rescue PG::Error => e
  puts e.message.include?('explicit type casts') ? 'ok a payload typed as text is refused with the cast' : "not ok refused: #{e.message}"
end
check.call('and works with it', 'SELECT queue.enqueue($1, $2::jsonb, $3) > 0', [{ value: 'k', type: 25 }, { value: '{}', type: 25 }, { value: q, type: 25 }], 't')
conn.close
