// Plain threads for images, outside the OpenMP team: warping (and, on the Python side, decoding)
// overlaps training, so it must not wait for the team nor be waited for by it.
#pragma once

#include <cstdint>

#include "kernels/images/args.h"
#include "kernels/types.h"

namespace handmill {

/// Runs body(context, blocks) over [0, count) on the calling thread and up to threads - 1 helpers.
/// `body` must not throw and must accept its blocks in any order. The helpers sleep between calls;
/// several callers share them. Where a thread cannot be made the others do its work. After a fork
/// the child makes helpers of its own.
void run_image_blocks(int64_t count, int threads, void (*body)(void* context, Range blocks),
                      void* context);

/// Fills in bands and rows_per_band from the shape (never from the thread count); returns the
/// number of blocks of `batch` images.
int64_t plan_warp_blocks(WarpArgs& args, int64_t batch);

/// Warps `batch` images with the warp kernel of some level.
void warp_images(KernelFunction kernel, WarpArgs args, int64_t batch, int threads);

}  // namespace handmill
