// What stands between the matrix products of a decoder layer, on x86-64 CPUs: one pass over memory for what takes
// torch up to ten operators. cpu_kernels.py calls it, and says what each function is given.
//
// Every row is computed by itself, in the same order whatever is beside it, so that a text's vector does not depend
// on its company. What is NaN or infinite stays so: nothing here is compiled as if it did not occur.
//
// Built once for each kind of processor (hatch_build.py). Threads are those of torch's own pool.

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#define LANES 16
#define BLOCK 8  // rows whose products with two vectors of the other side fit in the registers
#else
#define LANES 8
#define BLOCK 6
#endif
#define WIDTH (2 * LANES)
#define MOST_KEYS 512      // of a sequence in `attend`
#define MOST_HEAD_DIM 128  // there
#define FEW_QUERIES 64     // that are worth keys of their own, laid out once more
#define MAGIC 12582912.0f  // 1.5 * 2^23: a float beyond it has its integer in the lowest bits

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

enum { FLOAT32, BFLOAT16, UINT8 };  // what a tensor holds

// ---- threads ----

extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned);  // libgomp's, which torch has loaded

typedef void Work(const void *arguments, long begin, long end);

typedef struct {
    Work *work;
    const void *arguments;
    long next, end, grain;
} Job;

static void take(void *data) {
    Job *job = data;
    for (;;) {
        long begin = __atomic_fetch_add(&job->next, job->grain, __ATOMIC_RELAXED);
        if (begin >= job->end) return;
        long end = begin + job->grain;
        job->work(job->arguments, begin, end < job->end ? end : job->end);
    }
}

// Items 0 to `count`, `grain` at a time; where there are no more than that, in this thread.
static void run(Work *work, const void *arguments, long count, long grain, int threads) {
    Job job = {work, arguments, 0, count, grain};
    if (threads == 1 || count <= grain)
        take(&job);
    else
        GOMP_parallel(take, &job, threads, 0);
}

// Rows of `width` that are worth a thread's while.
static long rows_at_a_time(long width) {
    long rows = 16384 / width;
    return rows < 1 ? 1 : rows;
}

// ---- numbers ----

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// Of x <= 88, to about the last bit: 2^n times the polynomial of Cephes' expf.
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    float shifted = x * 1.44269504f + MAGIC;
    float n = shifted - MAGIC;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return of_bits(bits_of(y) + (bits_of(shifted) << 23));
}

static inline float silu(float x) {
    float negative = -x > 88.0f ? 88.0f : -x;
    return x / (1.0f + exponential(negative));
}

// Of `count`, a power of two: in halves, as a chain would wait for each addition.
static inline float sum_of(float *partial, int count) {
#pragma unroll
    for (int half = count / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++) partial[lane] += partial[lane + half];
    return partial[0];
}

static float sum_of_squares(const float *x, long n) {
    float partial[4 * LANES] = {0}, rest = 0;
    long i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int lane = 0; lane < 4 * LANES; lane++) partial[lane] += x[i + lane] * x[i + lane];
    for (; i < n; i++) rest += x[i] * x[i];
    return sum_of(partial, 4 * LANES) + rest;
}

// Compared as integers, of which a NaN is the largest.
static float largest_magnitude(const float *x, long n) {
    int32_t largest = 0;
    for (long i = 0; i < n; i++) {
        int32_t magnitude = bits_of(x[i]) & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    return of_bits(largest);
}

// To the nearest, of two to the even one. A NaN that came of a bfloat16 stays one.
static inline uint16_t to_bfloat16(float x) {
    uint32_t bits = bits_of(x);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// ---- rows ----

static inline const void *row_of(const void *tensor, int dtype, long index) {
    return (const char *)tensor + index * (dtype == FLOAT32 ? 4 : 2);
}

static inline float element(const void *row, int dtype, long index) {
    return dtype == FLOAT32 ? ((const float *)row)[index] : of_bits((uint32_t)((const uint16_t *)row)[index] << 16);
}

// [n] from `index` of a tensor on: where they are, or converted, in `room`.
static const float *load(const void *tensor, int dtype, long index, long n, float *room) {
    const void *row = row_of(tensor, dtype, index);
    if (dtype == FLOAT32) return row;
    for (long i = 0; i < n; i++) room[i] = element(row, dtype, i);
    return room;
}

// Where to write what `stored` is then told of: in its place, or in `room`.
static float *place_for(void *tensor, int dtype, long index, float *room) {
    return dtype == FLOAT32 ? (float *)tensor + index : room;
}

static void stored(const float *x, long n, void *tensor, int dtype, long index) {
    if (dtype == FLOAT32) return;
    uint16_t *halves = (uint16_t *)tensor + index;
    for (long i = 0; i < n; i++) halves[i] = to_bfloat16(x[i]);
}

// A row [n] rounded to `steps` of its largest magnitude to either side; returns that.
static float stored_in_steps(const float *x, long n, uint8_t *out, int steps) {
    float largest = largest_magnitude(x, n);
    largest = largest < 1e-30f ? 1e-30f : largest;
    float per_step = steps / largest, shift = MAGIC + (steps + 1);
    for (long i = 0; i < n; i++) out[i] = (uint8_t)bits_of(x[i] * per_step + shift);
    return largest;
}

// ---- root-mean-square norm, or none, of rows ----

typedef struct {
    const void *x, *weight;  // [T, n], [n] or NULL: no norm
    int dtype, weight_dtype;
    long n;
    float eps;
    void *out;  // [T, n]
    int out_dtype, steps;
    float *scales;  // [T]
} Norm;

static void norm_rows(const void *arguments, long begin, long end) {
    const Norm *of = arguments;
    long n = of->n;
    int in_steps = of->out_dtype == UINT8;
    float room[n], result_room[n], weight_room[n];
    const float *weight = of->weight ? load(of->weight, of->weight_dtype, 0, n, weight_room) : NULL;
    for (long row = begin; row < end; row++) {
        const float *x = load(of->x, of->dtype, row * n, n, room);
        float length = weight ? 1.0f / sqrtf(sum_of_squares(x, n) / n + of->eps) : 1.0f;
        if (weight) {
            float *result = in_steps ? result_room : place_for(of->out, of->out_dtype, row * n, result_room);
            float now = in_steps ? 1.0f : length;  // what a row is rounded to does not change with its length
            for (long i = 0; i < n; i++) result[i] = x[i] * now * weight[i];
            x = result;
        }
        if (in_steps)
            of->scales[row] = length * stored_in_steps(x, n, (uint8_t *)of->out + row * n, of->steps);
        else
            stored(x, n, of->out, of->out_dtype, row * n);
    }
}

void hexgrid_norm(const void *x, int dtype, const void *weight, int weight_dtype, long rows, long n, float eps,
                  void *out, int out_dtype, int steps, float *scales, int threads) {
    Norm of = {x, weight, dtype, weight_dtype, n, eps, out, out_dtype, steps, scales};
    run(norm_rows, &of, rows, rows_at_a_time(n), threads);
}

// ---- silu(gate) * up ----

typedef struct {
    const void *product;  // [T, 2 n]: gate and up side by side
    int dtype;
    const float *row_scales;  // [T], yet to be multiplied to the product, or NULL; only where it leaves in steps
    long n;
    void *out;  // [T, n]
    int out_dtype, steps;
    float *scales;  // [T]
} Swiglu;

static void swiglu_rows(const void *arguments, long begin, long end) {
    const Swiglu *of = arguments;
    long n = of->n;
    int in_steps = of->out_dtype == UINT8;
    float gate_room[n], up_room[n], result_room[n];
    for (long row = begin; row < end; row++) {
        const float *gate = load(of->product, of->dtype, 2 * row * n, n, gate_room);
        const float *up = load(of->product, of->dtype, (2 * row + 1) * n, n, up_room);
        float *result = in_steps ? result_room : place_for(of->out, of->out_dtype, row * n, result_room);
        float scale = of->row_scales ? of->row_scales[row] : 1.0f;
        for (long i = 0; i < n; i++) result[i] = silu(gate[i] * scale) * up[i];  // the scale of `up` can wait
        if (in_steps)
            of->scales[row] = scale * stored_in_steps(result, n, (uint8_t *)of->out + row * n, of->steps);
        else
            stored(result, n, of->out, of->out_dtype, row * n);
    }
}

void hexgrid_swiglu(const void *product, int dtype, const float *row_scales, long rows, long n, void *out,
                    int out_dtype, int steps, float *scales, int threads) {
    Swiglu of = {product, dtype, row_scales, n, out, out_dtype, steps, scales};
    run(swiglu_rows, &of, rows, rows_at_a_time(n), threads);
}

// ---- queries, keys and values: normed, turned by their position, put in their places ----

typedef struct {
    const void *product;  // [T, (N + 2 K) D]: q, k, v side by side
    int dtype;
    const float *row_scales;
    long num_q, num_kv, dim;
    const void *q_norm, *k_norm;  // [D]
    int norm_dtype;
    const float *cos, *sin;  // [T, D / 2]
    float eps;
    void *q, *k, *v;      // [T, N, D], [C, K, D], [C, K, D], in `out_dtype`
    int out_dtype;
    const int64_t *rows;  // [T], of k and v, or NULL: from `first` on
    long first;
} Heads;

// A head [D], normed and turned, to `index` of `out`.
static void turn(const Heads *of, const float *x, float scale, const float *norm, long row, void *out, long index) {
    long dim = of->dim, half = dim / 2;
    const float *cos = of->cos + row * half, *sin = of->sin + row * half;
    float room[dim], *result = place_for(out, of->out_dtype, index, room);
    float length = scale / sqrtf(scale * scale * sum_of_squares(x, dim) / dim + of->eps);
    for (long i = 0; i < half; i++) {
        float first = x[i] * length * norm[i], second = x[i + half] * length * norm[i + half];
        result[i] = first * cos[i] - second * sin[i];
        result[i + half] = second * cos[i] + first * sin[i];
    }
    stored(result, dim, out, of->out_dtype, index);
}

static void heads_rows(const void *arguments, long begin, long end) {
    const Heads *of = arguments;
    long dim = of->dim, num_heads = of->num_q + 2 * of->num_kv;
    float room[dim], q_room[dim], k_room[dim];
    const float *q_norm = load(of->q_norm, of->norm_dtype, 0, dim, q_room);
    const float *k_norm = load(of->k_norm, of->norm_dtype, 0, dim, k_room);
    for (long row = begin; row < end; row++) {
        float scale = of->row_scales ? of->row_scales[row] : 1.0f;
        long kv_row = of->rows ? of->rows[row] : of->first + row;
        for (long head = 0; head < num_heads; head++) {
            const float *x = load(of->product, of->dtype, (row * num_heads + head) * dim, dim, room);
            long kv_head = head - of->num_q;
            if (kv_head < 0) {
                turn(of, x, scale, q_norm, row, of->q, (row * of->num_q + head) * dim);
            } else if (kv_head < of->num_kv) {
                turn(of, x, scale, k_norm, row, of->k, (kv_row * of->num_kv + kv_head) * dim);
            } else {
                long index = (kv_row * of->num_kv + kv_head - of->num_kv) * dim;
                float *v = place_for(of->v, of->out_dtype, index, room);
                for (long i = 0; i < dim; i++) v[i] = x[i] * scale;
                stored(v, dim, of->v, of->out_dtype, index);
            }
        }
    }
}

void hexgrid_heads(const void *product, int dtype, const float *row_scales, long rows, long num_q, long num_kv,
                   long dim, const void *q_norm, const void *k_norm, int norm_dtype, const float *cos,
                   const float *sin, float eps, void *q, void *k, void *v, int out_dtype, const int64_t *kv_rows,
                   long first, int threads) {
    Heads of = {product, dtype, row_scales, num_q, num_kv, dim, q_norm, k_norm, norm_dtype, cos, sin, eps, q, k, v,
                out_dtype, kv_rows, first};
    run(heads_rows, &of, rows, rows_at_a_time((num_q + 2 * num_kv) * dim), threads);
}

// ---- causal attention of packed sequences ----

typedef struct {
    const void *q, *k, *v;  // [T, N, D], [C, K, D], [C, K, D]
    int dtype;
    long num_q, num_kv, dim;
    const int32_t *q_ends, *kv_ends;  // [B + 1], sums of lengths from 0 on
    long most_keys;                   // sequences that have more are left out
    long queries;                     // of an item, at most
    void *out;                        // [T, N, D]
} Attention;

// c [BLOCK, WIDTH] = a [BLOCK, depth] b [depth, WIDTH]
static inline void multiply(const float *a, long a_stride, const float *b, long depth, float *c, long c_stride) {
    floats sums[BLOCK][2] = {0};
    for (long d = 0; d < depth; d++) {
        floats left = *(const floats *)(b + d * WIDTH), right = *(const floats *)(b + d * WIDTH + LANES);
#pragma unroll
        for (int row = 0; row < BLOCK; row++) {
            sums[row][0] += a[row * a_stride + d] * left;
            sums[row][1] += a[row * a_stride + d] * right;
        }
    }
#pragma unroll
    for (int row = 0; row < BLOCK; row++) {
        *(floats *)(c + row * c_stride) = sums[row][0];
        *(floats *)(c + row * c_stride + LANES) = sums[row][1];
    }
}

// Scores [n] as weights in proportion, next to nothing (1e-38) from `seen` on; their sum.
static float weigh(float *x, long seen, long n) {
    float largest[LANES], weights[LANES] = {0};
    for (int lane = 0; lane < LANES; lane++) largest[lane] = -INFINITY;
    for (long i = seen; i < n; i++) x[i] = -INFINITY;
    for (long i = 0; i < n; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            largest[lane] = x[i + lane] > largest[lane] ? x[i + lane] : largest[lane];
#pragma unroll
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++)
            largest[lane] = largest[lane + half] > largest[lane] ? largest[lane + half] : largest[lane];
    for (long i = 0; i < n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            x[i + lane] = exponential(x[i + lane] - largest[0]);
            weights[lane] += x[i + lane];
        }
    return sum_of(weights, LANES);
}

static _Thread_local float keys[MOST_HEAD_DIM * MOST_KEYS], values[MOST_KEYS * MOST_HEAD_DIM];

#if LANES == 16
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#else
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#endif

// A square: to interleave the rows of its halves, as often as two goes into their number, turns it over.
static inline void transpose(floats rows[LANES]) {
#pragma unroll
    for (int done = 1; done < LANES; done *= 2) {
        floats next[LANES];
#pragma unroll
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], LOW);
            next[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], HIGH);
        }
        memcpy(rows, next, sizeof next);
    }
}

static inline floats lanes_of(const void *tensor, int dtype, long index) {
    floats lanes;
    for (int lane = 0; lane < LANES; lane++) lanes[lane] = element(row_of(tensor, dtype, index), dtype, lane);
    return lanes;
}

// Keys and values of one head of one sequence as panels that `multiply` reads from end to end: of WIDTH keys, and of
// WIDTH dimensions. Keys are filled up with zeros: what is behind the last one may be nobody's.
static void lay_out(const Attention *of, long kv_head, long first, long num_keys, long stride) {
    long dim = of->dim, step = of->num_kv * dim, start = (first * of->num_kv + kv_head) * dim;
    for (long key = 0; key < stride; key += LANES)
        for (long d = 0; d < dim; d += LANES) {
            floats square[LANES];
            for (int i = 0; i < LANES; i++)
                square[i] = key + i < num_keys ? lanes_of(of->k, of->dtype, start + (key + i) * step + d) : (floats){0};
            transpose(square);
            float *to = keys + key / WIDTH * WIDTH * dim + key % WIDTH + d * WIDTH;
            for (int i = 0; i < LANES; i++) *(floats *)(to + i * WIDTH) = square[i];
        }
    for (long key = 0; key < num_keys; key++)
        for (long d = 0; d < dim; d += LANES)
            *(floats *)(values + d / WIDTH * WIDTH * stride + key * WIDTH + d % WIDTH) =
                lanes_of(of->v, of->dtype, start + key * step + d);
}

// Items of one sequence: some of its queries with one key/value head.
static long items_of(const Attention *of, long sequence) {
    if (of->kv_ends[sequence + 1] - of->kv_ends[sequence] > of->most_keys) return 0;
    long num_queries = of->q_ends[sequence + 1] - of->q_ends[sequence];
    return (num_queries + of->queries - 1) / of->queries * of->num_kv;
}

static void attend_item(const Attention *of, long sequence, long kv_head, long first_query) {
    long dim = of->dim, group = of->num_q / of->num_kv;
    long first_q = of->q_ends[sequence] + first_query, num_queries = of->q_ends[sequence + 1] - first_q;
    long first_kv = of->kv_ends[sequence], past = of->kv_ends[sequence + 1] - first_kv - num_queries;
    num_queries = num_queries < of->queries ? num_queries : of->queries;
    long num_keys = past + num_queries, stride = (num_keys + WIDTH - 1) / WIDTH * WIDTH;
    lay_out(of, kv_head, first_kv, num_keys, stride);
    float q[BLOCK][MOST_HEAD_DIM] = {0}, scores[BLOCK][MOST_KEYS], out[BLOCK][MOST_HEAD_DIM];
    float scale = 1.0f / sqrtf(dim);
    // Rows are those of the heads that share these keys, of the first query, of the second, and so on.
    for (long first = 0; first < num_queries * group; first += BLOCK) {
        long num_rows = num_queries * group - first, place[BLOCK];
        num_rows = num_rows < BLOCK ? num_rows : BLOCK;
        for (long i = 0; i < num_rows; i++) {
            long query = first_q + (first + i) / group, head = kv_head * group + (first + i) % group;
            place[i] = (query * of->num_q + head) * dim;
            const void *row = row_of(of->q, of->dtype, place[i]);
            for (long d = 0; d < dim; d++) q[i][d] = element(row, of->dtype, d) * scale;
        }
        long most = past + (first + num_rows - 1) / group + 1, padded = (most + LANES - 1) / LANES * LANES;
        for (long key = 0; key < most; key += WIDTH)
            multiply(q[0], MOST_HEAD_DIM, keys + key * dim, dim, scores[0] + key, MOST_KEYS);
        float sums[BLOCK];
        for (long i = 0; i < num_rows; i++) sums[i] = weigh(scores[i], past + (first + i) / group + 1, padded);
        for (long d = 0; d < dim; d += WIDTH)
            multiply(scores[0], MOST_KEYS, values + d * stride, most, out[0] + d, MOST_HEAD_DIM);
        for (long i = 0; i < num_rows; i++) {
            float share = 1.0f / sums[i], *result = place_for(of->out, of->dtype, place[i], out[i]);
            for (long d = 0; d < dim; d++) result[d] = out[i][d] * share;
            stored(result, dim, of->out, of->dtype, place[i]);
        }
    }
}

static void attend_items(const void *arguments, long begin, long end) {
    const Attention *of = arguments;
    for (long item = begin; item < end; item++) {
        long sequence = 0, own = item;
        while (own >= items_of(of, sequence)) own -= items_of(of, sequence++);
        attend_item(of, sequence, own % of->num_kv, own / of->num_kv * of->queries);
    }
}

void hexgrid_attend(const void *q, const void *k, const void *v, int dtype, long num_q, long num_kv, long dim,
                    const int32_t *q_ends, const int32_t *kv_ends, long sequences, long most_keys, void *out,
                    int threads) {
    // Where heads and sequences leave threads idle, they share the queries as well.
    long queries = sequences * num_kv < 2 * threads ? FEW_QUERIES : MOST_KEYS;
    Attention of = {q, k, v, dtype, num_q, num_kv, dim, q_ends, kv_ends, most_keys, queries, out};
    long items = 0;
    for (long sequence = 0; sequence < sequences; sequence++) items += items_of(&of, sequence);
    run(attend_items, &of, items, 1, threads);
}
