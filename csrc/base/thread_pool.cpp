#include "base/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace bitnet {
namespace {

// Between two operations of a decode step there are microseconds, between two calls from Python
// perhaps a hundred. Spinning that long saves the wake-up; a longer wait parks.
constexpr auto kSpinTime = std::chrono::microseconds(200);
constexpr int kSpinsPerClock = 64;

inline void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until done() or the spin time is over; returns done().
template <class Done>
bool spin_until(const Done& done) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kSpinsPerClock; ++i) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return done();
}

constexpr int kMaxThreads = 1024;  // more is a mistake
constexpr std::uint64_t kFieldMask = (std::uint64_t{1} << 20) - 1;
constexpr int kChunksShift = 20, kRoundShift = 40;

bool has_chunks(std::uint64_t ticket) {
  return (ticket & kFieldMask) < (ticket >> kChunksShift & kFieldMask);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : threads_(threads) {
  check_arg(threads >= 1 && threads <= kMaxThreads, "threads", "expected threads in [1, ",
            kMaxThreads, "], got ", threads);
  try {
    for (int worker = 1; worker < threads_; ++worker)
      workers_.emplace_back([this, worker] { worker_loop(worker); });
  } catch (...) {  // the system gives no more threads: leave none behind
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard<std::mutex> lock(park_mutex_);
    stop_.store(true);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::take_chunks(int worker) {
  std::uint64_t ticket = ticket_.load();
  while (has_chunks(ticket)) {
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1)) continue;
    // Until this chunk is done, run() does not return and *fn_ stays.
    try {
      (*fn_)(static_cast<std::int64_t>(ticket & kFieldMask), worker);
    } catch (...) {
      std::lock_guard<std::mutex> lock(error_mutex_);
      if (!error_) error_ = std::current_exception();
    }
    done_.fetch_add(1);
    ticket = ticket_.load();
  }
}

void ThreadPool::worker_loop(int worker) {
  const auto ready = [&] { return stop_.load() || has_chunks(ticket_.load()); };
  while (!stop_.load()) {
    if (!spin_until(ready)) {
      std::unique_lock<std::mutex> lock(park_mutex_);
      parked_.fetch_add(1);
      wake_.wait(lock, ready);
      parked_.fetch_sub(1);
    }
    take_chunks(worker);
  }
}

void ThreadPool::run(std::int64_t chunks, const std::function<void(std::int64_t, int)>& fn) {
  std::lock_guard<std::mutex> turn(turn_);
  if (threads_ == 1 || chunks == 1) {
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) fn(chunk, 0);
    return;
  }
  fn_ = &fn;
  done_.store(0);
  const std::uint64_t round = (ticket_.load() >> kRoundShift) + 1;
  ticket_.store(round << kRoundShift | static_cast<std::uint64_t>(chunks) << kChunksShift);
  // A worker that counted itself as parked before it saw this round is woken here; one that has not
  // yet taken the mutex will see the new round in its wait condition.
  if (parked_.load() > 0) {
    {
      std::lock_guard<std::mutex> lock(park_mutex_);
    }
    wake_.notify_all();
  }
  take_chunks(0);
  // Others finish what they have begun: spin, and give way when the machine is busy.
  while (!spin_until([&] { return done_.load() == chunks; })) std::this_thread::yield();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

std::int64_t ThreadPool::chunks_for(std::int64_t units) const {
  constexpr std::int64_t kChunksPerThread = 4;
  return threads_ == 1 ? 1 : std::min(units, kChunksPerThread * threads_);
}

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain,
                              const std::function<void(std::int64_t, std::int64_t, int)>& fn) {
  if (n <= 0) return;
  const std::int64_t units = (n + grain - 1) / grain;
  const std::int64_t chunks = chunks_for(units);
  run(chunks, [&](std::int64_t chunk, int worker) {
    const std::int64_t begin = units * chunk / chunks * grain;
    const std::int64_t end = std::min(n, units * (chunk + 1) / chunks * grain);
    fn(begin, end, worker);
  });
}

}  // namespace bitnet
