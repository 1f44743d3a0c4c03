// Fourier transforms of square fields of one thread block, in place, without reordering.
//
// Given by the compiler's command line: N (pixels along an edge), RADICES (factors of N, in the order of the passes),
// THREADS (of a block), FIELD_IN_SHARED (1 where the field lies in shared memory).
//
// The transform to the detector decimates in frequency and leaves frequency f at position_of(f); the inverse decimates
// in time, takes it from there, and leaves pixels in order. Nothing here scales.
// Van Loan 1992, Computational Frameworks for the Fast Fourier Transform, doi 10.1137/1.9781611970999.

#if FIELD_IN_SHARED
#define PITCH (N + 1)
#else
#define PITCH N
#endif

__device__ __forceinline__ float2 complex_of(float real, float imaginary) {
    float2 value;
    value.x = real;
    value.y = imaginary;
    return value;
}

__device__ __forceinline__ float2 sum_of(float2 a, float2 b) { return complex_of(a.x + b.x, a.y + b.y); }

__device__ __forceinline__ float2 difference(float2 a, float2 b) { return complex_of(a.x - b.x, a.y - b.y); }

__device__ __forceinline__ float2 scaled(float2 a, float factor) { return complex_of(a.x * factor, a.y * factor); }

__device__ __forceinline__ float2 product(float2 a, float2 b) {
    return complex_of(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

__device__ __forceinline__ float2 conjugate_product(float2 a, float2 b) {
    return complex_of(a.x * b.x + a.y * b.y, a.x * b.y - a.y * b.x);
}

__device__ __forceinline__ float square_of(float2 a) { return a.x * a.x + a.y * a.y; }

// a times -i, or +i in the inverse.
template <bool INVERSE>
__device__ __forceinline__ float2 quarter_turn(float2 a) {
    return INVERSE ? complex_of(-a.y, a.x) : complex_of(a.y, -a.x);
}

__device__ __forceinline__ float cosine_of_sixteenths(int k) {
    return k == 1 ? 0.92387953f : k == 2 ? 0.70710678f : k == 3 ? 0.38268343f : k == 5 ? -0.38268343f
           : k == 6 ? -0.70710678f : -0.92387953f;
}

__device__ __forceinline__ float sine_of_sixteenths(int k) {
    return k == 1 || k == 7 ? 0.38268343f : k == 2 || k == 6 ? 0.70710678f : 0.92387953f;
}

template <int R, bool INVERSE>
struct ShortTransform {
    static __device__ __forceinline__ void run(float2 (&v)[R]) {
        float2 even[R / 2], odd[R / 2];
#pragma unroll
        for (int k = 0; k < R / 2; ++k) {
            even[k] = v[2 * k];
            odd[k] = v[2 * k + 1];
        }
        ShortTransform<R / 2, INVERSE>::run(even);
        ShortTransform<R / 2, INVERSE>::run(odd);
#pragma unroll
        for (int k = 0; k < R / 2; ++k) {
            float2 turned = odd[k];
            if (4 * k == R) {
                turned = quarter_turn<INVERSE>(turned);
            } else if (k > 0) {
                const float sine = sine_of_sixteenths(16 / R * k);
                turned = product(turned, complex_of(cosine_of_sixteenths(16 / R * k), INVERSE ? sine : -sine));
            }
            v[k] = sum_of(even[k], turned);
            v[k + R / 2] = difference(even[k], turned);
        }
    }
};

template <bool INVERSE>
struct ShortTransform<1, INVERSE> {
    static __device__ __forceinline__ void run(float2 (&)[1]) {}
};

template <bool INVERSE>
struct ShortTransform<3, INVERSE> {
    static __device__ __forceinline__ void run(float2 (&v)[3]) {
        const float2 both = sum_of(v[1], v[2]);
        const float2 middle = difference(v[0], scaled(both, 0.5f));
        const float2 side = quarter_turn<INVERSE>(scaled(difference(v[1], v[2]), 0.86602540f));
        v[0] = sum_of(v[0], both);
        v[1] = sum_of(middle, side);
        v[2] = difference(middle, side);
    }
};

template <bool INVERSE>
struct ShortTransform<5, INVERSE> {
    static __device__ __forceinline__ void run(float2 (&v)[5]) {
        const float c1 = 0.30901699f, c2 = -0.80901699f, s1 = 0.95105652f, s2 = 0.58778525f;
        const float2 near = sum_of(v[1], v[4]), far = sum_of(v[2], v[3]);
        const float2 near_odd = difference(v[1], v[4]), far_odd = difference(v[2], v[3]);
        const float2 first = sum_of(v[0], sum_of(scaled(near, c1), scaled(far, c2)));
        const float2 second = sum_of(v[0], sum_of(scaled(near, c2), scaled(far, c1)));
        const float2 first_odd = quarter_turn<INVERSE>(sum_of(scaled(near_odd, s1), scaled(far_odd, s2)));
        const float2 second_odd = quarter_turn<INVERSE>(difference(scaled(near_odd, s2), scaled(far_odd, s1)));
        v[0] = sum_of(v[0], sum_of(near, far));
        v[1] = sum_of(first, first_odd);
        v[2] = sum_of(second, second_odd);
        v[3] = difference(second, second_odd);
        v[4] = difference(first, first_odd);
    }
};

// One pass: transforms of R values that lie L / R apart, within every stretch of L values of every line. Threads of a
// warp work on neighbouring lines in shared memory, whose pitch is odd, so that no two want the same bank.
template <bool ALONG_ROWS, bool INVERSE, int L, int R>
__device__ __forceinline__ void one_pass(float2* field, const float2* turns) {
    const int apart = L / R, per_line = N / R;
    for (int task = threadIdx.x; task < N * per_line; task += THREADS) {
        const bool lines_first = FIELD_IN_SHARED || !ALONG_ROWS;
        const int line = lines_first ? task % N : task / per_line;
        const int which = lines_first ? task / N : task % per_line;
        const int j = which % apart, start = which / apart * L + j;
        const int step = ALONG_ROWS ? 1 : PITCH;
        float2* from = field + (ALONG_ROWS ? line * PITCH : line) + start * step;
        float2 v[R];
#pragma unroll
        for (int k = 0; k < R; ++k) {
            v[k] = from[k * apart * step];
            if (INVERSE && k > 0 && apart > 1) v[k] = conjugate_product(turns[j * k * (N / L)], v[k]);
        }
        ShortTransform<R, INVERSE>::run(v);
#pragma unroll
        for (int k = 0; k < R; ++k) {
            if (!INVERSE && k > 0 && apart > 1) v[k] = product(v[k], turns[j * k * (N / L)]);
            from[k * apart * step] = v[k];
        }
    }
    __syncthreads();
}

template <bool ALONG_ROWS, bool INVERSE, int L, int... RS>
struct Passes {
    static __device__ __forceinline__ void run(float2*, const float2*) {}
    static __device__ __forceinline__ int position_of(int) { return 0; }
};

template <bool ALONG_ROWS, bool INVERSE, int L, int R, int... RS>
struct Passes<ALONG_ROWS, INVERSE, L, R, RS...> {
    typedef Passes<ALONG_ROWS, INVERSE, L / R, RS...> Rest;

    static __device__ __forceinline__ void run(float2* field, const float2* turns) {
        if (INVERSE) Rest::run(field, turns);
        one_pass<ALONG_ROWS, INVERSE, L, R>(field, turns);
        if (!INVERSE) Rest::run(field, turns);
    }

    static __device__ __forceinline__ int position_of(int frequency) {
        return frequency % R * (L / R) + Rest::position_of(frequency / R);
    }
};

__device__ __forceinline__ int position_of(int frequency) {
    return Passes<true, false, N, RADICES>::position_of(frequency);
}

// Ends with a barrier; the caller has one between its writes and this.
template <bool INVERSE>
__device__ __forceinline__ void transform(float2* field, const float2* turns) {
    Passes<true, INVERSE, N, RADICES>::run(field, turns);
    Passes<false, INVERSE, N, RADICES>::run(field, turns);
}
