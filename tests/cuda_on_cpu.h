// Enough of CUDA to run kernels with a C++ compiler: the threads of a block are coroutines that switch at barriers.
// Shared memory starts out as NaN. Threads run in either order, so that a missing barrier changes the result.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#define __device__
#define __global__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct float2 {
    float x, y;
};

struct Place {
    unsigned x, y, z;
};

static Place threadIdx, blockIdx, blockDim, gridDim;
alignas(16) float2 memory[1 << 16];

inline void atomicAdd(float* where, float value) { *where += value; }

inline void sincospif(float turns, float* sine, float* cosine) {
    *sine = (float)std::sin(M_PI * (double)turns);
    *cosine = (float)std::cos(M_PI * (double)turns);
}

namespace on_cpu {

struct Coroutine {
    ucontext_t context;
    std::vector<char> stack;
    bool finished;
};

static ucontext_t scheduler;
static Coroutine* running;
static std::function<void()> body;

inline void enter() {
    body();
    running->finished = true;
    swapcontext(&running->context, &scheduler);
}

// Returns false when some threads of a block waited at a barrier that others never reached.
inline bool launch(unsigned columns, unsigned rows, unsigned threads, bool backwards, std::function<void()> kernel) {
    body = kernel;
    gridDim = {columns, rows, 1};
    blockDim = {threads, 1, 1};
    std::vector<Coroutine> all(threads);
    for (auto& one : all) one.stack.resize(1 << 16);
    for (unsigned block = 0; block < columns * rows; ++block) {
        blockIdx = {block % columns, block / columns, 0};
        float poison = std::numeric_limits<float>::quiet_NaN();
        for (auto& value : memory) value = {poison, poison};
        for (auto& one : all) {
            one.finished = false;
            getcontext(&one.context);
            one.context.uc_stack.ss_sp = one.stack.data();
            one.context.uc_stack.ss_size = one.stack.size();
            one.context.uc_link = nullptr;
            makecontext(&one.context, enter, 0);
        }
        for (unsigned left = threads; left > 0;) {
            unsigned ended = 0;
            for (unsigned k = 0; k < threads; ++k) {
                unsigned thread = backwards ? threads - 1 - k : k;
                running = &all[thread];
                threadIdx = {thread, 0, 0};
                swapcontext(&scheduler, &running->context);
                ended += running->finished;
            }
            if (ended != 0 && ended != threads) return false;
            left -= ended;
        }
    }
    return true;
}

}  // namespace on_cpu

inline void __syncthreads() { swapcontext(&on_cpu::running->context, &on_cpu::scheduler); }

