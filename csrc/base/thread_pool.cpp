#include "base/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"

#if !defined(_WIN32)
#include <pthread.h>
#endif
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

constexpr std::uint64_t kFieldMask = (std::uint64_t{1} << 20) - 1;
constexpr int kChunksShift = 20, kRoundShift = 40;

// Counts the forks between the first process and this one.
int process_generation() {
  static std::atomic<int> generation{0};
#if !defined(_WIN32)
  static const int registered = pthread_atfork(nullptr, nullptr, [] { ++generation; });
  (void)registered;
#endif
  return generation.load(std::memory_order_relaxed);
}

int checked(int threads) {
  constexpr int kMaxThreads = 1024;  // more is a mistake
  check_arg(threads >= 1 && threads <= kMaxThreads, "threads", "expected threads in [1, ",
            kMaxThreads, "], got ", threads);
  return threads;
}

bool has_chunks(std::uint64_t ticket) {
  return (ticket & kFieldMask) < (ticket >> kChunksShift & kFieldMask);
}

}  // namespace

ThreadPool::ThreadPool(int threads)
    : threads_(checked(threads)), process_(process_generation()), shared_(new Shared) {
  try {
    for (int worker = 1; worker < threads_; ++worker)
      shared_->workers.emplace_back([this, worker] { worker_loop(worker); });
  } catch (...) {  // the system gives no more threads: leave none behind
    stop();
    delete shared_;
    throw;
  }
}

ThreadPool::~ThreadPool() {
  if (process_ != process_generation()) return;
  stop();
  delete shared_;
}

void ThreadPool::stop() {
  {
    std::lock_guard<std::mutex> lock(shared_->park_mutex);
    shared_->stop.store(true);
  }
  shared_->wake.notify_all();
  for (std::thread& worker : shared_->workers) worker.join();
}

void ThreadPool::take_chunks(int worker) {
  std::uint64_t ticket = shared_->ticket.load();
  while (has_chunks(ticket)) {
    if (!shared_->ticket.compare_exchange_weak(ticket, ticket + 1)) continue;
    // Until this chunk is done, run() does not return and *shared_->fn stays.
    try {
      (*shared_->fn)(static_cast<std::int64_t>(ticket & kFieldMask), worker);
    } catch (...) {
      std::lock_guard<std::mutex> lock(shared_->error_mutex);
      if (!shared_->error) shared_->error = std::current_exception();
    }
    shared_->done.fetch_add(1);
    ticket = shared_->ticket.load();
  }
}

void ThreadPool::worker_loop(int worker) {
  const auto ready = [&] { return shared_->stop.load() || has_chunks(shared_->ticket.load()); };
  while (!shared_->stop.load()) {
    if (!spin_until(ready)) {
      std::unique_lock<std::mutex> lock(shared_->park_mutex);
      shared_->parked.fetch_add(1);
      shared_->wake.wait(lock, ready);
      shared_->parked.fetch_sub(1);
    }
    take_chunks(worker);
  }
}

void ThreadPool::run(std::int64_t chunks, const std::function<void(std::int64_t, int)>& fn) {
  check(chunks < kMaxChunks, "threads", "expected fewer than ", kMaxChunks, " chunks, got ",
        chunks);
  std::lock_guard<std::mutex> turn(shared_->turn);
  if (threads_ == 1 || chunks <= 1 || process_ != process_generation()) {
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) fn(chunk, 0);
    return;
  }
  shared_->fn = &fn;
  shared_->done.store(0);
  const std::uint64_t round = (shared_->ticket.load() >> kRoundShift) + 1;
  shared_->ticket.store(round << kRoundShift | static_cast<std::uint64_t>(chunks) << kChunksShift);
  // A worker that counted itself as parked before it saw this round is woken here; one that has not
  // yet taken the mutex will see the new round in its wait condition.
  if (shared_->parked.load() > 0) {
    {
      std::lock_guard<std::mutex> lock(shared_->park_mutex);
    }
    shared_->wake.notify_all();
  }
  take_chunks(0);
  // Others finish what they have begun: spin, and give way when the machine is busy.
  while (!spin_until([&] { return shared_->done.load() == chunks; })) std::this_thread::yield();
  if (shared_->error) std::rethrow_exception(std::exchange(shared_->error, nullptr));
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
