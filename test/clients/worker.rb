# A worker in Ruby with the pg gem (Debian: ruby-pg).  Copy it, and change `work`.
#
#   DATABASE_URL=postgres://... ruby worker.rb      SIGTERM: give back what is claimed, then end
require 'json'
require 'pg'

URL = ENV.fetch('DATABASE_URL')
QUEUE = ENV.fetch('QUEUE', 'default')
LEASE = ENV.fetch('LEASE', '60').to_i
Stopped = Class.new(StandardError)
$stop = false
$lost = false
%w[TERM INT].each { |s| trap(s) { $stop = $lost = true } }

def work(payload)
  raise payload['fail'] if payload['fail']
  deadline = Time.now + payload.fetch('sleep_ms', 0) / 1000.0
  while Time.now < deadline
    raise Stopped if $lost
    sleep 0.01
  end
  { ok: true }
end

# A connection that comes back: after a restart of the server or of the pooler the statement is tried again.  That is safe
# for every call here: with the attempt given, a second complete or fail of one claim changes nothing.
class Database
  GONE = [PG::ConnectionBad, PG::UnableToSend, PG::ConnectionException, PG::OperatorIntervention, PG::InsufficientResources]

  def call(sql, values)
    @conn ||= PG.connect(URL)
    @conn.exec_params(sql, values)
  rescue *GONE => e
    close
    raise if $stop
    warn e.message
    sleep 0.5
    retry
  end

  def close
    @conn&.close
  rescue PG::Error
    nil
  ensure
    @conn = nil
  end
end

# On a connection of its own: the worker's is busy or waiting.
def heartbeat(id, attempt)
  Thread.new do
    db = Database.new
    loop do
      sleep LEASE / 3.0
      until_ = db.call('SELECT queue.heartbeat($1, $2, $3)', [id, "#{LEASE} s", attempt]).getvalue(0, 0)
      break $lost = true if until_.nil?
    end
  rescue PG::Error => e
    warn e.message                                   # we are to stop
  ensure
    db.close
  end
end

def run(db, job)
  id, attempt = job.values_at('id', 'attempt')       # strings: send them back as they came
  $lost = $stop
  beat = heartbeat(id, attempt)
  begin
    result = work(JSON.parse(job['payload']))
    db.call('SELECT queue.complete($1, $2, $3)', [id, attempt, JSON.generate(result)])
  rescue Stopped
    db.call('SELECT queue.release($1, $2)', [id, attempt])
  rescue PG::Error
    raise
  rescue StandardError => e
    db.call('SELECT queue.fail($1, $2, $3)', [id, attempt, e.full_message(highlight: false)])
  ensure
    beat.kill
  end
end

db = Database.new
begin
  until $stop
    jobs = db.call('SELECT id, attempt, payload FROM queue.fetch($1, 1, lease => $2, wait => $3, worker => $4)',
                   [QUEUE, "#{LEASE} s", ENV.fetch('WAIT', '5 s'), "ruby:#{Process.pid}"])
    jobs.each { |job| run(db, job) }
  end
rescue *Database::GONE => e
  warn e.message
end
db.close
