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

extern "C" void gather(const uint8_t* images, const int64_t* rows, int64_t batch, int64_t channels,
                       int64_t pixels, bool interleaved, const float* shift, const float* divisor,
                       float* output, int threads) {
  const int64_t size = channels * pixels;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    std::vector<uint8_t> scratch(interleaved ? size : 0);
#pragma omp for
    for (int64_t i = 0; i < batch; i++) {
      const uint8_t* image = images + rows[i] * size;
      const uint8_t* next = images + rows[std::min(i + 1, batch - 1)] * size;
      if (interleaved) {
        if (channels == 3)
          interleave(image, 3, pixels, scratch.data());  // vectorised for this constant
        else
          interleave(image, channels, pixels, scratch.data());
        image = scratch.data();
      }
      scale(image, next, size, shift, divisor, output + i * size);
    }
  }
}
