// Owns: the threads. One pool per Model: persistent workers that spin shortly and then park.
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

class ThreadPool {
 public:
  // threads >= 1 counts the calling thread; threads - 1 workers are started.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // fn(worker) on every thread, worker in [0, threads); returns when all are done. The first
  // exception is rethrown here. Calls from several threads take turns; calls from inside fn are a
  // bug.
  void run(const std::function<void(int worker)>& fn);

  // Splits [0, n) into contiguous ranges, one per worker, each starting at a multiple of `grain`.
  void parallel_for(
      std::int64_t n, std::int64_t grain,
      const std::function<void(std::int64_t begin, std::int64_t end, int worker)>& fn);

 private:
  void worker_loop(int worker);
  void call(int worker);

  const int threads_;
  std::vector<std::thread> workers_;
  std::mutex turn_;  // one run at a time
  const std::function<void(int)>* fn_ = nullptr;
  std::atomic<std::uint64_t> round_{0};
  std::atomic<int> pending_{0};
  std::atomic<bool> stop_{false};
  std::atomic<int> parked_{0};
  std::mutex park_mutex_;
  std::condition_variable wake_;
  std::mutex error_mutex_;
  std::exception_ptr error_;
};

}  // namespace bitnet
