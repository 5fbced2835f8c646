// Owns: the threads. One pool per Model: persistent workers that spin shortly and then park.
//
// Work is cut into chunks that threads take one by one, so a slow core (an efficiency core, or one
// that another program holds) does less instead of making the others wait; a worker that never gets
// a processor is not waited for at all. Chunks own disjoint outputs, so who takes which changes no
// bit.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace bitnet {

// Below this many multiply-adds, waking the other threads costs more than they save.
inline constexpr std::int64_t kMinSharedWork = 128 * 1024;

class ThreadPool {
 public:
  // threads counts the calling thread; threads - 1 workers are started. ValueError outside [1,
  // 1024].
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  static constexpr std::int64_t kMaxChunks = 1 << 20;

  // fn(chunk, worker) for every chunk in [0, chunks), each once, worker in [0, threads); returns
  // when all are done. The first exception is rethrown here. Calls from several threads take turns;
  // calls from inside fn are a bug. chunks < 2^20.
  void run(std::int64_t chunks, const std::function<void(std::int64_t chunk, int worker)>& fn);

  // Splits [0, n) into contiguous ranges, each starting at a multiple of `grain`.
  void parallel_for(
      std::int64_t n, std::int64_t grain,
      const std::function<void(std::int64_t begin, std::int64_t end, int worker)>& fn);

  // Into how many chunks to cut `units` of equal work: enough to even out, few enough to be cheap.
  std::int64_t chunks_for(std::int64_t units) const;

 private:
  void worker_loop(int worker);
  void take_chunks(int worker);
  void stop();

  // What workers share. After fork() a child has this memory but not the workers: it then computes
  // alone, and lets the memory be, since a condition variable that workers wait on can not be
  // destroyed.
  struct Shared {
    std::vector<std::thread> workers;
    std::mutex turn;  // one run at a time
    const std::function<void(std::int64_t, int)>* fn = nullptr;
    // round << 40 | chunks << 20 | next chunk: a chunk is taken by one compare-and-swap, which
    // fails for a thread that looked at an earlier round.
    std::atomic<std::uint64_t> ticket{0};
    std::atomic<std::int64_t> done{0};
    std::atomic<bool> stop{false};
    std::atomic<int> parked{0};
    std::mutex park_mutex;
    std::condition_variable wake;
    std::mutex error_mutex;
    std::exception_ptr error;
  };
  const int threads_;
  const int process_;  // which generation of fork() made the workers
  Shared* const shared_;
};

}  // namespace bitnet
