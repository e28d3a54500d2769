# Sidekiq: a worker process with retries, schedules, queues in order, dead jobs and its API. Arguments: port.
require "sidekiq"
require "sidekiq/api"

Redis.silence_deprecations = true

ADDRESS = "redis://127.0.0.1:#{ENV["SIDEKIQ_JOBS_PORT"] || ARGV[0]}/0"
Sidekiq.configure_server do |config|
  config.redis = { url: ADDRESS }
  config.average_scheduled_poll_interval = 1
  config.logger.level = Logger::FATAL
end
Sidekiq.configure_client { |config| config.redis = { url: ADDRESS } }

class Add
  include Sidekiq::Worker
  def perform(list, left, right)
    Sidekiq.redis { |redis| redis.rpush(list, left + right) }
  end
end

class ThirdTry
  include Sidekiq::Worker
  sidekiq_options retry: 5
  sidekiq_retry_in { 1 }
  def perform(name)
    raise "not yet" if Sidekiq.redis { |redis| redis.incr(name) } < 3
    Sidekiq.redis { |redis| redis.rpush("tried", "enough") }
  end
end

class Fail
  include Sidekiq::Worker
  sidekiq_options retry: 0, queue: "low"
  def perform(text)
    raise ArgumentError, text
  end
end

def equal(found, wanted)
  raise "found #{found.inspect} instead of #{wanted.inspect}" unless found == wanted
end

def wait_for(what, seconds = 60)
  limit = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
  until yield
    raise "#{what} did not happen" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > limit
    sleep 0.05
  end
end

def list(name)
  Sidekiq.redis { |redis| redis.lrange(name, 0, -1) }
end

def main
  10.times { |number| Add.perform_async("sums", number, 1) }
  Sidekiq::Client.push_bulk("class" => Add, "args" => (1..200).map { |number| ["bulk", number, 0] })
  equal(Sidekiq::Queue.new.size, 210)
  wait_for("the work") { list("sums").size == 10 && list("bulk").size == 200 }
  equal(list("sums").map(&:to_i).sort, (1..10).to_a)
  equal(list("bulk").map(&:to_i).sort, (1..200).to_a)

  started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  Add.perform_in(1, "late", 1, 1)
  kept = Add.perform_in(3600, "never", 1, 1)
  equal(Sidekiq::ScheduledSet.new.find_job(kept).args, ["never", 1, 1])
  ThirdTry.perform_async("tries")
  Fail.perform_async("broken on purpose")
  wait_for("the late job") { list("late") == ["2"] }
  raise "it ran too early" if Process.clock_gettime(Process::CLOCK_MONOTONIC) - started < 0.9
  wait_for("the third try") { list("tried") == ["enough"] }
  wait_for("the dead job") { Sidekiq::DeadSet.new.size == 1 }
  dead = Sidekiq::DeadSet.new.first
  equal([dead.klass, dead.args, dead["error_message"], dead.queue], ["Fail", ["broken on purpose"], "broken on purpose", "low"])
  equal([Sidekiq::RetrySet.new.size, Sidekiq::ScheduledSet.new.size], [0, 1])
  Sidekiq::ScheduledSet.new.find_job(kept).delete
  equal(Sidekiq::ScheduledSet.new.size, 0)
  wait_for("the worker's heartbeat") { Sidekiq::ProcessSet.new.size == 1 }
  equal(Sidekiq::ProcessSet.new.first["queues"].sort, ["default", "low"])
  stats = Sidekiq::Stats.new
  wait_for("the counts") { Sidekiq::Stats.new.processed >= 214 && Sidekiq::Stats.new.failed >= 3 }
  equal([stats.enqueued, stats.dead_size], [0, 1])
  dead.retry
  wait_for("the second death") { Sidekiq::DeadSet.new.size == 1 }
  Sidekiq::DeadSet.new.clear
  equal(Sidekiq::Queue.all.map(&:name).sort, ["default", "low"])
  Sidekiq::ProcessSet.new.each(&:quiet!)
  wait_for("the quiet worker") { Sidekiq::ProcessSet.new.first["quiet"] == "true" }
  Add.perform_async("later", 1, 1)
  Sidekiq::Queue.new.clear
  equal(Sidekiq::Queue.new.size, 0)
  puts "all as expected"
end

if ARGV[0] && $PROGRAM_NAME == __FILE__
  command = ["sidekiq", "-r", File.expand_path(__FILE__), "-c", "4", "-q", "default,2", "-q", "low"]
  worker = spawn({ "SIDEKIQ_JOBS_PORT" => ARGV[0] }, *command, out: :err)
  begin
    main
  ensure
    Process.kill("TERM", worker)
    Process.wait(worker)
  end
end
