// ReLU and 2x2 max-pooling in one pass over images that lie in memory as [B, H, W, C].
//
// input, input_gradient    [B, H, W, C]
// output, output_gradient  [B, H/2, W/2, C]
// winner                   [B, H/2, W/2, C]  where in its window, in reading order, the maximum
//                                            stands; NONE where it is not positive
// A last row or column of an odd size is in no window.
#include <algorithm>
#include <cstdint>

constexpr uint8_t NONE = 4;

static inline float relu(float x) { return x < 0 ? 0 : x; }  // NaN and -0 stay

extern "C" void forward(int64_t batch, int64_t height, int64_t width, int64_t channels,
                        const float* input, float* output, uint8_t* winner, int threads) {
  const int64_t rows = height / 2, columns = width / 2, stride = width * channels;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t row = 0; row < batch * rows; row++) {
    const float* upper = input + (row / rows * height + row % rows * 2) * stride;
    for (int64_t column = 0; column < columns; column++) {
      const int64_t start = (row * columns + column) * channels;
      const float* __restrict__ window = upper + 2 * column * channels;
      float* __restrict__ maxima = output + start;
      uint8_t* __restrict__ places = winner + start;
#pragma omp simd
      for (int64_t k = 0; k < channels; k++) {
        const float a = relu(window[k]), b = relu(window[channels + k]);
        const float c = relu(window[stride + k]), d = relu(window[stride + channels + k]);
        const float above = b > a ? b : a, below = d > c ? d : c;
        const int above_place = b > a ? 1 : 0, below_place = d > c ? 3 : 2;
        const float number = below > above ? below : above;
        const int number_place = below > above ? below_place : above_place;
        // A NaN is the maximum, the last of several; GCC 12 does not vectorise `b > a || b != b`.
        const float sum = a + b + c + d;  // none is negative: NaN only where one of them is
        const int nan_place = d != d ? 3 : c != c ? 2 : b != b ? 1 : 0;
        const float maximum = sum != sum ? sum : number;
        maxima[k] = maximum;
        places[k] = maximum <= 0 ? NONE : sum != sum ? nan_place : number_place;
      }
    }
  }
}

// Writes each element of input_gradient once.
extern "C" void backward(int64_t batch, int64_t height, int64_t width, int64_t channels,
                         const float* output_gradient, const uint8_t* winner,
                         float* input_gradient, int threads) {
  const int64_t rows = height / 2, columns = width / 2, stride = width * channels;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t row = 0; row < batch * rows; row++) {
    float* const upper = input_gradient + (row / rows * height + row % rows * 2) * stride;
    for (int64_t column = 0; column < columns; column++) {
      const int64_t start = (row * columns + column) * channels;
      const float* __restrict__ gradients = output_gradient + start;
      const uint8_t* __restrict__ places = winner + start;
      float* __restrict__ window = upper + 2 * column * channels;
#pragma omp simd
      for (int64_t k = 0; k < channels; k++) {
        const float gradient = gradients[k] + 0.0f;  // PyTorch adds to a zero: no -0 remains
        window[k] = places[k] == 0 ? gradient : 0;
        window[channels + k] = places[k] == 1 ? gradient : 0;
        window[stride + k] = places[k] == 2 ? gradient : 0;
        window[stride + channels + k] = places[k] == 3 ? gradient : 0;
      }
    }
    if (width % 2) {
      std::fill_n(upper + stride - channels, channels, 0);
      std::fill_n(upper + 2 * stride - channels, channels, 0);
    }
    if (height % 2 && row % rows == rows - 1) std::fill_n(upper + 2 * stride, stride, 0);
  }
}
