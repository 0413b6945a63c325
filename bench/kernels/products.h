// Matrix products by PyTorch's own BLAS: put before the kernels that take them.
#include <algorithm>
#include <cstdint>
#include <cstring>

typedef void (*Sgemm)(const char*, const char*, const int*, const int*, const int*, const float*,
                      const float*, const int*, const float*, const int*, const float*, float*,
                      const int*);

// c [rows, columns] = a b + beta c, where a is [rows, inner], or [inner, rows] if it is transposed,
// and b [inner, columns], or [columns, inner]; strides are from one of their rows to the next.
static void product(Sgemm sgemm, bool a_transposed, bool b_transposed, int rows, int columns,
                    int inner, const float* a, int a_stride, const float* b, int b_stride,
                    float beta, float* c, int c_stride) {
  const float alpha = 1;
  sgemm(b_transposed ? "T" : "N", a_transposed ? "T" : "N", &columns, &rows, &inner, &alpha, b,
        &b_stride, a, &a_stride, &beta, c, &c_stride);
}

