// The way through a fully connected network and back, with the matrix products of PyTorch's own
// BLAS, in its order: each number is that of torch.addmm, relu, mm, threshold_backward and sum.
//
// The way there and what changes on the way back are cut by samples, the gradients of the weights by
// features that come in: each number is still one whole sum, so that nothing depends on the cut.
typedef void (*Part)(void* context, int place);
typedef void (*Share)(void* crew, Part part, void* context, int parts);

struct Network {
  Sgemm sgemm;  // the BLAS's, column by column: what lies there row by row is its transpose
  Share share;  // has all parts of a work done, by a crew
  void* crew;   // null for none
  int layers;
  const int* sizes;       // [layers + 1]: features that come in, and go out of each
  const bool* rectified;  // [layers]: whether max(0, .) follows
  int batch, samples_a_part;
  int cuts;          // of gradients: a layer, and the features of it from and up to, largest first
  const int* where;  // [cuts, 3]
  const float* x;    // [batch, sizes[0]]
  const float* const* weights;  // of each layer [outputs, inputs]
  const float* const* biases;   // [outputs]
  float* const* outputs;        // [batch, outputs]
  float* const* changes;        // [batch, outputs]: the gradient of its products; where the last one
                                // ends, that of the outputs is given
  float* const* gradients;      // of each layer's weights
  float* const* sums;           // and biases
};

static void share(Network& net, Part part, int parts) {
  if (net.crew)
    net.share(net.crew, part, &net, parts);
  else
    for (int place = 0; place < parts; place++) part(&net, place);
}

struct Samples {
  int64_t from, count;
  Samples(const Network& net, int place)
      : from((int64_t)place * net.samples_a_part),
        count(std::min<int64_t>(net.samples_a_part, net.batch - from)) {}
};

static int parts_of_samples(const Network& net) {
  return (net.batch + net.samples_a_part - 1) / net.samples_a_part;
}

static void there_part(void* context, int place) {
  const Network& net = *static_cast<Network*>(context);
  const Samples own(net, place);
  for (int layer = 0; layer < net.layers; layer++) {
    const int in = net.sizes[layer], out = net.sizes[layer + 1];
    const float* x = (layer ? net.outputs[layer - 1] : net.x) + own.from * in;
    float* y = net.outputs[layer] + own.from * out;
    for (int64_t row = 0; row < own.count; row++)
      std::memcpy(y + row * out, net.biases[layer], out * sizeof(float));
    product(net.sgemm, false, true, own.count, out, in, x, in, net.weights[layer], in, 1, y, out);
    if (net.rectified[layer])
      for (int64_t k = 0; k < own.count * out; k++) y[k] = y[k] < 0 ? 0 : y[k];
  }
}

static void changes_part(void* context, int place) {
  const Network& net = *static_cast<Network*>(context);
  const Samples own(net, place);
  for (int layer = net.layers - 1; layer >= 0; layer--) {
    const int in = net.sizes[layer], out = net.sizes[layer + 1];
    float* change = net.changes[layer] + own.from * out;
    const float* y = net.outputs[layer] + own.from * out;
    if (net.rectified[layer])
      for (int64_t k = 0; k < own.count * out; k++) change[k] = y[k] <= 0 ? 0 : change[k];
    if (layer)
      product(net.sgemm, false, false, own.count, in, out, change, out, net.weights[layer], in, 0,
              net.changes[layer - 1] + own.from * in, in);
  }
}

static void gradients_part(const Network& net, const int* cut) {
  const int layer = cut[0], from = cut[1], end = cut[2];
  const int in = net.sizes[layer], out = net.sizes[layer + 1];
  const float* before = layer ? net.outputs[layer - 1] : net.x;
  product(net.sgemm, true, false, out, end - from, net.batch, net.changes[layer], out,
          before + from, in, 0, net.gradients[layer] + from, in);
}

// The sum over rows [count, columns] in PyTorch's order, of columns that come by the 64: of some rows,
// of some such sums, and so on.
static void sum_rows(const float* rows, int count, int columns, float* sums) {
  constexpr int LEVELS = 4, WIDTH = 64;
  int log = 0;
  while (1 << log < count) log++;
  const int power = std::max(4, log / LEVELS);
  for (int first = 0; first < columns; first += WIDTH) {
    float found[LEVELS][WIDTH] = {};
    for (int row = 0; row < count; row++) {
      const float* x = rows + (int64_t)row * columns + first;
      for (int k = 0; k < WIDTH; k++) found[0][k] += x[k];
      for (int level = 1; level < LEVELS; level++) {
        if ((row + 1) % (1 << power * level)) break;
        for (int k = 0; k < WIDTH; k++) found[level][k] += found[level - 1][k];
        std::memset(found[level - 1], 0, sizeof(found[0]));
      }
    }
    for (int level = 1; level < LEVELS; level++)
      for (int k = 0; k < WIDTH; k++) found[0][k] += found[level][k];
    std::memcpy(sums + first, found[0], sizeof(found[0]));
  }
}

// Of weights, and after them of biases.
static void changing_part(void* context, int place) {
  const Network& net = *static_cast<Network*>(context);
  const int layer = place - net.cuts;
  if (layer < 0)
    gradients_part(net, net.where + 3 * place);
  else if (net.sizes[layer + 1] % 64 == 0)
    sum_rows(net.changes[layer], net.batch, net.sizes[layer + 1], net.sums[layer]);
}

extern "C" void there(Network* net) { share(*net, there_part, parts_of_samples(*net)); }

extern "C" void back(Network* net) {
  share(*net, changes_part, parts_of_samples(*net));
  share(*net, changing_part, net->cuts + net->layers);
}
