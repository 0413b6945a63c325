// The way through a fully connected network and back, with the matrix products of PyTorch's own
// BLAS, in its order: each number is that of torch.addmm, relu, mm and threshold_backward.
//
// sgemm     the BLAS's, column by column: what lies there row by row is its transpose
// layers    how many; sizes [layers + 1]: features that come in, and go out of each
// rectified [layers]: whether max(0, .) follows
// x         [batch, sizes[0]]
// weights   of each layer [outputs, inputs], biases [outputs]
// outputs   of each layer [batch, outputs]
#include <cstdint>
#include <cstring>

typedef void (*Sgemm)(const char*, const char*, const int*, const int*, const int*, const float*,
                      const float*, const int*, const float*, const int*, const float*, float*,
                      const int*);

// c [rows, columns] = a b + beta c, where a is [rows, inner], or [inner, rows] if it is transposed,
// and b [inner, columns], or [columns, inner].
static void product(Sgemm sgemm, bool a_transposed, bool b_transposed, int rows, int columns,
                    int inner, const float* a, const float* b, float beta, float* c) {
  const float alpha = 1;
  const int a_stride = a_transposed ? rows : inner, b_stride = b_transposed ? inner : columns;
  sgemm(b_transposed ? "T" : "N", a_transposed ? "T" : "N", &columns, &rows, &inner, &alpha, b,
        &b_stride, a, &a_stride, &beta, c, &columns);
}

extern "C" void there(Sgemm sgemm, int layers, const int* sizes, const bool* rectified, int batch,
                      const float* x, const float* const* weights, const float* const* biases,
                      float* const* outputs) {
  for (int layer = 0; layer < layers; layer++) {
    const int in = sizes[layer], out = sizes[layer + 1];
    float* y = outputs[layer];
    for (int64_t row = 0; row < batch; row++)
      std::memcpy(y + row * out, biases[layer], out * sizeof(float));
    product(sgemm, false, true, batch, out, in, x, weights[layer], 1, y);
    if (rectified[layer])
      for (int64_t k = 0; k < (int64_t)batch * out; k++) y[k] = y[k] < 0 ? 0 : y[k];
    x = y;
  }
}

// changes   of each layer [batch, outputs]: the gradient of its products; where the last one ends,
//           that of the outputs is given
// gradients of each layer's weights
extern "C" void back(Sgemm sgemm, int layers, const int* sizes, const bool* rectified, int batch,
                     const float* x, const float* const* weights, const float* const* outputs,
                     float* const* changes, float* const* gradients) {
  for (int layer = layers - 1; layer >= 0; layer--) {
    const int in = sizes[layer], out = sizes[layer + 1];
    float* change = changes[layer];
    const float* y = outputs[layer];
    if (rectified[layer])
      for (int64_t k = 0; k < (int64_t)batch * out; k++) change[k] = y[k] <= 0 ? 0 : change[k];
    const float* before = layer ? outputs[layer - 1] : x;
    product(sgemm, true, false, out, in, batch, change, before, 0, gradients[layer]);
    if (layer) product(sgemm, false, false, batch, in, out, change, weights[layer], 0, changes[layer - 1]);
  }
}
