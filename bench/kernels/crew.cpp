// A crew of threads that share work with the one that has it.
//
// Work is a number of parts, each a function of its own place: who is free takes the next one. Who
// waits for work to be done takes parts, too, so that nobody ever waits for a thread that has not
// begun. A thread that the system has halted within a part holds the others up; then the owner does
// without the crew for a while.
//
// One thread owns a crew and alone calls its functions, but for `crew_work`.
#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef void (*Part)(void* context, int place);

namespace {

constexpr auto AWAKE = std::chrono::microseconds(200);  // without work, before a thread sleeps
constexpr auto HELD_UP = std::chrono::microseconds(300);
constexpr int SHORTEST = 16, LONGEST = 512;  // works that the owner then does alone
constexpr int OFTEN = 4;                     // of these, between two times when it was held up
constexpr int LOOKS = 64;                     // between two looks at the clock
constexpr uint64_t FIELD = 0xffff;

typedef std::chrono::steady_clock Clock;

void rest() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

struct Work {
  Part part = nullptr;
  void* context = nullptr;
  int parts = 0;
  std::atomic<uint64_t> ticket{0};  // which work, how many parts, the next one: 32, 16, 16 bits
  std::atomic<int> done{0};

  void offer(Part what, void* with, int how_many) {  // when what was here before is done
    part = what, context = with, parts = how_many;
    done.store(0, std::memory_order_relaxed);
    const uint64_t which = (ticket.load(std::memory_order_relaxed) >> 32) + 1;
    ticket.store(which << 32 | (uint64_t)how_many << 16);
  }

  bool offered() const {
    const uint64_t now = ticket.load();
    return (now & FIELD) < (now >> 16 & FIELD);
  }

  bool take_a_part() {
    uint64_t now = ticket.load(std::memory_order_acquire);
    while ((now & FIELD) < (now >> 16 & FIELD))
      if (ticket.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) {
        part(context, now & FIELD);
        done.fetch_add(1, std::memory_order_release);
        return true;
      }
    return false;
  }

  bool is_done() const { return done.load(std::memory_order_acquire) == parts; }
};

struct Crew {
  Work now, later;  // what is waited for, and what will be
  std::fenv_t arithmetic;  // the owner's
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<int> asleep{0};
  std::atomic<bool> over{false};
  int alone = 0, pause = SHORTEST;
  int64_t shared = 0;  // works since it was held up

  bool offered() const { return now.offered() || later.offered(); }

  void run() {
    std::fesetenv(&arithmetic);
    while (!over.load()) {
      const Clock::time_point idle_since = Clock::now();
      for (int looks = 1;; looks++) {
        if (now.take_a_part() || later.take_a_part() || over.load()) break;
        if (looks % LOOKS == 0 && Clock::now() - idle_since > AWAKE) {
          std::unique_lock<std::mutex> lock(mutex);
          asleep++;
          wake.wait(lock, [this] { return offered() || over.load(); });
          asleep--;
          break;
        }
        rest();
      }
    }
  }

  void offer(Work& work, Part part, void* context, int parts) {
    work.offer(part, context, parts);
    if (asleep.load() > 0) {
      std::lock_guard<std::mutex> lock(mutex);
      wake.notify_all();
    }
  }

  void finish(Work& work) {
    Clock::time_point began = Clock::now(), ended = began;
    Clock::duration longest{0};
    while (work.take_a_part()) {
      ended = Clock::now();
      longest = std::max(longest, ended - began);
      began = ended;
    }
    shared++;
    while (!work.is_done()) rest();
    if (Clock::now() - ended > HELD_UP + 2 * longest) {
      pause = shared < OFTEN * pause ? std::min(2 * pause, LONGEST) : SHORTEST;
      alone = pause, shared = 0;
    }
  }
};

}  // namespace

extern "C" Crew* crew_new() {
  Crew* crew = new Crew;
  std::fegetenv(&crew->arithmetic);
  return crew;
}

// What a thread of it does, until `crew_stop`.
extern "C" void crew_work(Crew* crew) { crew->run(); }

// When all that was given to it is done.
extern "C" void crew_stop(Crew* crew) {
  std::lock_guard<std::mutex> lock(crew->mutex);
  crew->over.store(true);
  crew->wake.notify_all();
}

// When no thread works for it any more.
extern "C" void crew_delete(Crew* crew) { delete crew; }

// Returns when all parts are done.
extern "C" void crew_share(Crew* crew, Part part, void* context, int parts) {
  if (crew->alone > 0) {
    crew->alone--;
    for (int place = 0; place < parts; place++) part(context, place);
    return;
  }
  crew->offer(crew->now, part, context, parts);
  crew->finish(crew->now);
}

// Returns at once; the context must stay as it is until `crew_finish` has returned, which must come
// before the next.
extern "C" void crew_begin_to(Crew* crew, Part part, void* context, int parts) {
  if (crew->alone > 0) crew->later.offer(part, context, parts);  // and nobody is told
  else crew->offer(crew->later, part, context, parts);
}

extern "C" void crew_finish(Crew* crew) { crew->finish(crew->later); }
