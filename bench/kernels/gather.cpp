// Images gathered and scaled in one pass: (image - shift) / divisor, rounded after each operation.
//
// images          [N, C, P]  bytes, P pixels in each of C channels
// rows            [B]        which images
// shift, divisor  [C, P]     or [P, C], as the output
// output          [B, C, P]  or [B, P, C] where channels are interleaved
#include <algorithm>
#include <cstdint>
#include <vector>

constexpr int64_t CACHE_LINE = 64;

static inline void interleave(const uint8_t* __restrict__ image, int64_t channels, int64_t pixels,
                              uint8_t* __restrict__ output) {
  for (int64_t pixel = 0; pixel < pixels; pixel++)
    for (int64_t channel = 0; channel < channels; channel++)
      output[pixel * channels + channel] = image[channel * pixels + pixel];
}

// Asks for the image `next` meanwhile, since no processor foresees a random row: one line of it for
// each line that is scaled, for many at once would wait for each other.
static inline void scale(const uint8_t* __restrict__ image, const uint8_t* next, int64_t size,
                         const float* __restrict__ shift, const float* __restrict__ divisor,
                         float* __restrict__ output) {
  for (int64_t start = 0; start < size; start += CACHE_LINE) {
    __builtin_prefetch(next + start);
    const int64_t end = std::min(start + CACHE_LINE, size);
    for (int64_t k = start; k < end; k++) output[k] = (image[k] - shift[k]) / divisor[k];
  }
}

struct Gathering {
  const uint8_t* images;
  const int64_t* rows;
  int64_t batch, channels, pixels;
  bool interleaved;
  const float *shift, *divisor;
  float* output;
  int64_t rows_a_part;
};

static void gather_rows(const Gathering& to, int64_t from, int64_t end) {
  const int64_t size = to.channels * to.pixels;
  std::vector<uint8_t> scratch(to.interleaved ? size : 0);
  for (int64_t i = from; i < end; i++) {
    const uint8_t* image = to.images + to.rows[i] * size;
    const uint8_t* next = to.images + to.rows[std::min(i + 1, to.batch - 1)] * size;
    if (to.interleaved) {
      if (to.channels == 3)
        interleave(image, 3, to.pixels, scratch.data());  // vectorised for this constant
      else
        interleave(image, to.channels, to.pixels, scratch.data());
      image = scratch.data();
    }
    scale(image, next, size, to.shift, to.divisor, to.output + i * size);
  }
}

// A part of it, as a crew takes it.
extern "C" void gather_part(void* gathering, int place) {
  const Gathering& to = *static_cast<Gathering*>(gathering);
  const int64_t from = place * to.rows_a_part;
  gather_rows(to, from, std::min(from + to.rows_a_part, to.batch));
}

extern "C" void gather(const Gathering* to, int threads) {
  const int64_t share = std::max<int64_t>(1, (to->batch + threads - 1) / threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t from = 0; from < to->batch; from += share)
    gather_rows(*to, from, std::min(from + share, to->batch));
}
