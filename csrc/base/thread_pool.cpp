#include "base/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

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

}  // namespace

ThreadPool::ThreadPool(int threads) : threads_(std::max(1, threads)) {
  for (int worker = 1; worker < threads_; ++worker)
    workers_.emplace_back([this, worker] { worker_loop(worker); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(park_mutex_);
    stop_.store(true);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::call(int worker) {
  try {
    (*fn_)(worker);
  } catch (...) {
    std::lock_guard<std::mutex> lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void ThreadPool::worker_loop(int worker) {
  std::uint64_t seen = 0;
  for (;;) {
    const auto ready = [&] { return stop_.load() || round_.load() != seen; };
    if (!spin_until(ready)) {
      std::unique_lock<std::mutex> lock(park_mutex_);
      parked_.fetch_add(1);
      wake_.wait(lock, ready);
      parked_.fetch_sub(1);
    }
    if (stop_.load()) return;
    seen = round_.load();
    call(worker);
    pending_.fetch_sub(1);
  }
}

void ThreadPool::run(const std::function<void(int)>& fn) {
  std::lock_guard<std::mutex> turn(turn_);
  fn_ = &fn;
  pending_.store(threads_ - 1);
  round_.fetch_add(1);
  // A worker that counted itself as parked before it saw this round is woken here; one that has not
  // yet taken the mutex will see the new round in its wait condition.
  if (parked_.load() > 0) {
    {
      std::lock_guard<std::mutex> lock(park_mutex_);
    }
    wake_.notify_all();
  }
  call(0);
  // The others have equal shares, so they are nearly done: spin, and give way when the machine is
  // busy.
  while (!spin_until([&] { return pending_.load() == 0; })) std::this_thread::yield();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain,
                              const std::function<void(std::int64_t, std::int64_t, int)>& fn) {
  if (n <= 0) return;
  const std::int64_t units = (n + grain - 1) / grain;
  if (threads_ == 1 || units == 1) return fn(0, n, 0);
  run([&](int worker) {
    const std::int64_t begin = units * worker / threads_ * grain;
    const std::int64_t end = std::min(n, units * (worker + 1) / threads_ * grain);
    if (begin < end) fn(begin, end, worker);
  });
}

}  // namespace bitnet
