// The way through K fully connected networks of one shape and back, on one thread. Activations are
// [features, batch] for each, so that the first layer of all that see the same samples is one
// product. The numbers are those of torch.baddbmm, relu, bmm, threshold_backward and sum.

struct Networks {
  Sgemm sgemm;
  int layers;
  const int* sizes;       // [layers + 1]: features that come in, and go out of each
  const bool* rectified;  // [layers]: whether max(0, .) follows
  int batch, runs, seeds;  // the runs lie ordered by seed, as many of each
  const float* x;          // [seeds, batch, sizes[0]]
  const float* const* weights;  // of each layer [runs, outputs, inputs]
  const float* const* biases;   // [runs, outputs]
  float* const* outputs;        // [runs, outputs, batch]
  float* const* changes;    // the same: the gradient of its products; where the last one ends, that
                            // of the outputs is given
  float* const* gradients;  // of each layer's weights
  float* const* sums;       // and biases
};

// What lies between two of a layer's blocks, a run's each, or in the first layer a seed's.
struct Blocks {
  int count, rows, in;
  Blocks(const Networks& net, int layer)
      : count(layer ? net.runs : net.seeds),
        rows(net.sizes[layer + 1] * (net.runs / count)),
        in(net.sizes[layer]) {}
};

static void there_layer(const Networks& net, int layer, const Blocks& own, int64_t n) {
  const int batch = net.batch;
  float* y = net.outputs[layer] + n * own.rows * batch;
  const float* bias = net.biases[layer] + n * own.rows;
  for (int64_t row = 0; row < own.rows; row++)
    std::fill(y + row * batch, y + (row + 1) * batch, bias[row]);
  const float* before = (layer ? net.outputs[layer - 1] : net.x) + n * own.in * batch;
  product(net.sgemm, false, layer == 0, own.rows, batch, own.in,
          net.weights[layer] + n * own.rows * own.in, own.in, before, layer ? batch : own.in, 1, y,
          batch);
  if (net.rectified[layer])
    for (int64_t k = 0; k < (int64_t)own.rows * batch; k++) y[k] = y[k] < 0 ? 0 : y[k];
}

// The sum of each of some rows [64, batch] in PyTorch's order: of some columns, of some such sums,
// and so on.
static void sum_columns(const float* rows, int batch, float* sums) {
  constexpr int LEVELS = 4, WIDTH = 64;
  int log = 0;
  while (1 << log < batch) log++;
  const int power = std::max(4, log / LEVELS);
  float found[LEVELS][WIDTH] = {};
  for (int sample = 0; sample < batch; sample++) {
    for (int64_t k = 0; k < WIDTH; k++) found[0][k] += rows[k * batch + sample];
    for (int level = 1; level < LEVELS; level++) {
      if ((sample + 1) % (1 << power * level)) break;
      for (int k = 0; k < WIDTH; k++) found[level][k] += found[level - 1][k];
      std::memset(found[level - 1], 0, sizeof(found[0]));
    }
  }
  for (int level = 1; level < LEVELS; level++)
    for (int k = 0; k < WIDTH; k++) found[0][k] += found[level][k];
  std::memcpy(sums, found[0], sizeof(found[0]));
}

static void back_layer(const Networks& net, int layer, const Blocks& own, int64_t n) {
  const int batch = net.batch;
  const int64_t place = n * own.rows * batch;
  float* change = net.changes[layer] + place;
  if (net.rectified[layer]) {
    const float* y = net.outputs[layer] + place;
    for (int64_t k = 0; k < (int64_t)own.rows * batch; k++) change[k] = y[k] <= 0 ? 0 : change[k];
  }
  const float* weights = net.weights[layer] + n * own.rows * own.in;
  if (layer)
    product(net.sgemm, true, false, own.in, batch, own.rows, weights, own.in, change, batch, 0,
            net.changes[layer - 1] + n * own.in * batch, batch);
  const float* before = (layer ? net.outputs[layer - 1] : net.x) + n * own.in * batch;
  product(net.sgemm, false, layer > 0, own.rows, own.in, batch, change, batch, before,
          layer ? batch : own.in, 0, net.gradients[layer] + n * own.rows * own.in, own.in);
  if (net.sizes[layer + 1] % 64 == 0)
    for (int64_t row = 0; row < own.rows; row += 64)
      sum_columns(change + row * batch, batch, net.sums[layer] + n * own.rows + row);
}

extern "C" void there(const Networks* net) {
  const Blocks first(*net, 0);
  for (int n = 0; n < first.count; n++) there_layer(*net, 0, first, n);
  for (int run = 0; run < net->runs; run++)
    for (int layer = 1; layer < net->layers; layer++)
      there_layer(*net, layer, Blocks(*net, layer), run);
}

extern "C" void back(const Networks* net) {
  for (int run = 0; run < net->runs; run++)
    for (int layer = net->layers - 1; layer > 0; layer--)
      back_layer(*net, layer, Blocks(*net, layer), run);
  const Blocks first(*net, 0);
  for (int n = 0; n < first.count; n++) back_layer(*net, 0, first, n);
}
