// Visits of frames by one thread block each; what they want is collected and applied by kernels that follow.
//
// Given by the compiler's command line, besides what fourier.cuh needs: MODES (of the probe), UPSAMPLING (probe pixels
// per frame pixel), FIND_SHIFTS (1 to tell how far frames seem displaced), BLOCKS_PER_PROCESSOR (for the registers).

#define PIXELS (N * N)
#define FRAME_PX (N / UPSAMPLING)
#define TINY 1e-12f
#define SLOPE_DAMPING 1e-3f
#define EACH_PIXEL(e) for (int e = threadIdx.x; e < PIXELS; e += THREADS)

extern __shared__ float2 memory[];

__device__ __forceinline__ void add_to(float2* where, float2 value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    atomicAdd(where, value);
#else
    atomicAdd(&where->x, value.x);
    atomicAdd(&where->y, value.y);
#endif
}

template <bool MAXIMUM>
__device__ __forceinline__ float of_all_threads(float value, float* room) {
    __syncthreads();
    room[threadIdx.x] = value;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            const float other = room[threadIdx.x + half];
            room[threadIdx.x] = MAXIMUM ? fmaxf(room[threadIdx.x], other) : room[threadIdx.x] + other;
        }
        __syncthreads();
    }
    return room[0];
}

// Counts of one pixel, -1 where it was not measured.
__device__ __forceinline__ float counts_at(unsigned long long address, int kind, int pixel) {
    if (kind == 0) {
        const unsigned char value = ((const unsigned char*)address)[pixel];
        return value == 255 ? -1.0f : (float)value;
    }
    if (kind == 1) {
        const unsigned short value = ((const unsigned short*)address)[pixel];
        return value == 65535 ? -1.0f : (float)value;
    }
    if (kind == 2) {
        const unsigned int value = ((const unsigned int*)address)[pixel];
        return value == 4294967295u ? -1.0f : (float)value;
    }
    const float value = ((const float*)address)[pixel];
    return value >= 0.0f && value < 3.4028235e38f ? value : -1.0f;
}

// Shared memory of a block: the field (where it fits), far-field intensity, phase factors, and room for reductions.
struct Room {
    float2* field;
    float2* turns;
    float2* ramp_down;
    float2* ramp_right;
    float* intensity;
    float* reduced;

    __device__ __forceinline__ Room(float2* field_elsewhere, float* intensity_elsewhere) {
        float2* next = memory;
        turns = next;
        next += N;
        ramp_down = next;
        next += N;
        ramp_right = next;
        next += N;
        reduced = (float*)next;
        next += THREADS / 2;
#if FIELD_IN_SHARED
        field = next;
        next += N * PITCH;
        intensity = (float*)next;
#else
        field = field_elsewhere;
        intensity = intensity_elsewhere;
#endif
    }
};

__device__ __forceinline__ int in_field(int pixel) { return pixel / N * PITCH + pixel % N; }

__device__ __forceinline__ float2 ramp_of(int frequency, float distance_px) {
    const int of_both_signs = frequency < (N + 1) / 2 ? frequency : frequency - N;
    float sine, cosine;
    sincospif(-2.0f * (float)of_both_signs * distance_px / N, &sine, &cosine);
    return complex_of(cosine, sine);
}

// The modes of the probe as their spectra, frequencies where `transform` leaves them, or back. One block for each.
extern "C" __global__ void __launch_bounds__(THREADS)
convert_probe(float2* probe, const float2* turns_of_n, float2* fields, int inverse) {
    Room room(fields + (size_t)blockIdx.x * PIXELS, 0);
    float2* mode = probe + (size_t)blockIdx.x * PIXELS;
    for (int k = threadIdx.x; k < N; k += THREADS) room.turns[k] = turns_of_n[k];
    EACH_PIXEL(e) room.field[in_field(e)] = mode[e];
    __syncthreads();
    if (inverse) {
        transform<true>(room.field, room.turns);
    } else {
        transform<false>(room.field, room.turns);
    }
    EACH_PIXEL(e) mode[e] = scaled(room.field[in_field(e)], 1.0f / N);
}

// Visit the frames first, first + 1, ... of a group, each by one block, all with object and probe as they are.
//
// image         object, (height, width)
// probe         (MODES, N, N), or its spectrum as `convert_probe` makes it where is_spectrum
// places        first row and column of frames, (K, 2)
// fractions_px  down and right, (K, 2)
// addresses     of their counts, row by row, and kinds: 0 to 3 for 8, 16 and 32 bit unsigned and float
// numbers       gain, object step, probe step, (K, 3)
// wants         0 to compare only
// fields .. light   room of each block: (N, N), (MODES, N, N), (MODES, N, N), (N, N), (N, N), (N, N)
// object_change, object_share   collected wishes, and what share of what is missing they make up for, as `image`
// probe_change  collected wishes, as `probe`
// outcome       residual, shift down and right, modelled counts, (K, 4)
//
// A thread works on the same pixels in every EACH_PIXEL, so that only transforms and sums need barriers.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_PROCESSOR)
visit_group(const float2* image, int width, const float2* probe, int is_spectrum, const float2* turns_of_n,
            const int* places, const float* fractions_px, const unsigned long long* addresses, const int* kinds,
            const float* numbers, int first, int wants, float object_alpha, float probe_alpha, float2* fields,
            float2* all_waves, float2* all_lit, float2* all_wanted, float* all_intensity, float* all_light,
            float2* object_change, float* object_share, float2* probe_change, float* outcome) {
    const int frame = first + blockIdx.x;
    const size_t block = blockIdx.x;
    Room room(fields + block * PIXELS, all_intensity + block * PIXELS);
    float2* field = room.field;
    float2* waves = all_waves + block * MODES * PIXELS;
    float2* lit = all_lit + block * MODES * PIXELS;
    float2* wanted = all_wanted + block * PIXELS;
    float* light = all_light + block * PIXELS;
    const size_t corner = (size_t)places[2 * frame] * width + places[2 * frame + 1];
    const float2* patch = image + corner;
    const float gain = numbers[3 * frame], object_step = numbers[3 * frame + 1], probe_step = numbers[3 * frame + 2];
    const float scale = 1.0f / N;

    for (int k = threadIdx.x; k < N; k += THREADS) {
        room.turns[k] = turns_of_n[k];
        room.ramp_down[position_of(k)] = ramp_of(k, fractions_px[2 * frame]);
        room.ramp_right[position_of(k)] = ramp_of(k, fractions_px[2 * frame + 1]);
    }
    EACH_PIXEL(e) {
        room.intensity[e] = 0.0f;
        light[e] = 0.0f;
    }
    __syncthreads();

    float object_peak = 0.0f, probe_peak = 0.0f;
    for (int m = 0; m < MODES; ++m) {
        const float2* mode = probe + (size_t)m * PIXELS;
        if (is_spectrum) {
            EACH_PIXEL(e) {
                const float2 ramp = product(room.ramp_down[e / N], room.ramp_right[e % N]);
                field[in_field(e)] = product(mode[e], ramp);
            }
            __syncthreads();
            transform<true>(field, room.turns);
        }
        EACH_PIXEL(e) {
            const float2 seen = patch[(size_t)(e / N) * width + e % N];
            const float2 here = is_spectrum ? scaled(field[in_field(e)], scale) : mode[e];
            if (is_spectrum) lit[(size_t)m * PIXELS + e] = here;
            field[in_field(e)] = product(here, seen);
            light[e] += square_of(here);
            if (m == 0) object_peak = fmaxf(object_peak, square_of(seen));
            if (m == MODES - 1) probe_peak = fmaxf(probe_peak, light[e]);
        }
        __syncthreads();
        transform<false>(field, room.turns);
        EACH_PIXEL(e) {
            const float2 far = scaled(field[in_field(e)], scale);
            room.intensity[e] += square_of(far);
            if (MODES > 1) waves[(size_t)m * PIXELS + e] = far;
        }
    }
    object_peak = of_all_threads<true>(object_peak, room.reduced);
    probe_peak = of_all_threads<true>(probe_peak, room.reduced);

    float residual = 0.0f, modelled = 0.0f;
    for (int pixel = threadIdx.x; pixel < FRAME_PX * FRAME_PX; pixel += THREADS) {
        const int row = pixel / FRAME_PX * UPSAMPLING, column = pixel % FRAME_PX * UPSAMPLING;
        float power = 0.0f;
        for (int down = 0; down < UPSAMPLING; ++down)
            for (int right = 0; right < UPSAMPLING; ++right)
                power += room.intensity[position_of(row + down) * N + position_of(column + right)];
        const float counts = counts_at(addresses[frame], kinds[frame], pixel), modulus = sqrtf(power);
        float missing = 0.0f;
        if (counts >= 0.0f) {
            missing = sqrtf(counts / gain) - modulus;
            residual += missing * missing;
            modelled += power;
        }
        const float factor = missing / fmaxf(modulus, TINY);
        for (int down = 0; down < UPSAMPLING; ++down)
            for (int right = 0; right < UPSAMPLING; ++right)
                room.intensity[position_of(row + down) * N + position_of(column + right)] = factor;
    }
    residual = of_all_threads<false>(residual, room.reduced);
    modelled = of_all_threads<false>(modelled, room.reduced);
    if (threadIdx.x == 0) {
        outcome[4 * frame] = residual * gain;
        outcome[4 * frame + 1] = 0.0f;
        outcome[4 * frame + 2] = 0.0f;
        outcome[4 * frame + 3] = modelled;
    }
    if (!wants && !FIND_SHIFTS) return;

    const float probe_rest = fmaxf(probe_alpha * object_peak, TINY);
    const float object_rest = fmaxf(object_alpha * probe_peak, TINY);
    for (int m = 0; m < MODES; ++m) {
        EACH_PIXEL(e) {
            const float2 far = MODES > 1 ? waves[(size_t)m * PIXELS + e] : scaled(field[in_field(e)], scale);
            field[in_field(e)] = scaled(far, room.intensity[e]);
        }
        __syncthreads();
        transform<true>(field, room.turns);
        EACH_PIXEL(e) {
            const float2 correction = scaled(field[in_field(e)], scale);
            const float2 here = (is_spectrum ? lit : probe)[(size_t)m * PIXELS + e];
            const float2 seen = patch[(size_t)(e / N) * width + e % N];
            const float2 more = conjugate_product(here, correction);
            wanted[e] = m == 0 ? more : sum_of(wanted[e], more);
            const float weight = probe_step / ((1.0f - probe_alpha) * square_of(seen) + probe_rest);
            const float2 change = scaled(conjugate_product(seen, correction), weight);
            field[in_field(e)] = change;
            if (probe_step > 0.0f && !is_spectrum) add_to(probe_change + (size_t)m * PIXELS + e, change);
        }
        __syncthreads();
        if (probe_step > 0.0f && is_spectrum) {
            transform<false>(field, room.turns);
            EACH_PIXEL(e) {
                const float2 ramp = product(room.ramp_down[e / N], room.ramp_right[e % N]);
                const float2 change = scaled(conjugate_product(ramp, field[in_field(e)]), scale);
                add_to(probe_change + (size_t)m * PIXELS + e, change);
            }
        }
    }
    if (object_step > 0.0f) {
        EACH_PIXEL(e) {
            const float weight = object_step / ((1.0f - object_alpha) * light[e] + object_rest);
            const size_t where = corner + (size_t)(e / N) * width + e % N;
            add_to(object_change + where, scaled(wanted[e], weight));
            atomicAdd(object_share + where, light[e] * weight);
        }
    }
#if FIND_SHIFTS
    float sums[5] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    EACH_PIXEL(e) {
        const int row = e / N, column = e % N;
        if (row == 0 || row == N - 1 || column == 0 || column == N - 1) continue;
        const float2* here = patch + (size_t)row * width + column;
        const float2 down = scaled(difference(here[width], *(here - width)), 0.5f);
        const float2 right = scaled(difference(here[1], *(here - 1)), 0.5f);
        sums[0] += down.x * wanted[e].x + down.y * wanted[e].y;
        sums[1] += right.x * wanted[e].x + right.y * wanted[e].y;
        sums[2] += square_of(down) * light[e];
        sums[3] += square_of(right) * light[e];
        sums[4] += (down.x * right.x + down.y * right.y) * light[e];
    }
    for (int k = 0; k < 5; ++k) sums[k] = of_all_threads<false>(sums[k], room.reduced);
    if (threadIdx.x == 0) {
        const float damping = SLOPE_DAMPING * (sums[2] + sums[3]) + TINY;
        const float a = sums[2] + damping, b = sums[3] + damping, c = sums[4];
        const float determinant = a * b - c * c;
        outcome[4 * frame + 1] = (b * sums[0] - c * sums[1]) / determinant;
        outcome[4 * frame + 2] = (a * sums[1] - c * sums[0]) / determinant;
    }
#endif
}

// Apply what a group wants of a rectangle of the object, and clear the wishes. One thread for each pixel.
extern "C" __global__ void change_object(float2* image, float2* change, float* share, int width, int top, int left,
                                         int rows, int columns) {
    const int row = blockIdx.y, column = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows || column >= columns) return;
    const size_t where = (size_t)(top + row) * width + left + column;
    image[where] = sum_of(image[where], scaled(change[where], 1.0f / fmaxf(share[where], 1.0f)));
    change[where] = complex_of(0.0f, 0.0f);
    share[where] = 0.0f;
}

// Apply what a group wants of the probe, whose steps add up to `summed_steps`, and clear the wishes.
extern "C" __global__ void change_probe(float2* probe, float2* change, float summed_steps) {
    const int where = blockIdx.x * blockDim.x + threadIdx.x;
    if (where >= MODES * PIXELS) return;
    probe[where] = sum_of(probe[where], scaled(change[where], 1.0f / fmaxf(summed_steps, 1.0f)));
    change[where] = complex_of(0.0f, 0.0f);
}
