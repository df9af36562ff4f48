/** @file
 * Every choice of a build, with its default; set others with -D. Impossible combinations stop here. */
#ifndef TSK_CONFIG_H
#define TSK_CONFIG_H

#include <limits.h>

#if INT_MAX < 2147483647
#error "the kernels need an int of 32 bits; 8-bit and 16-bit processors have none"
#endif

/** Rounding of a requantisation: TensorFlow Lite Micro's (twice), or LiteRT's reference (once). */
#define TSK_ROUNDING_TFLM 0
#define TSK_ROUNDING_SINGLE 1
#ifndef TSK_ROUNDING
#define TSK_ROUNDING TSK_ROUNDING_TFLM
#endif
#if TSK_ROUNDING != TSK_ROUNDING_TFLM && TSK_ROUNDING != TSK_ROUNDING_SINGLE
#error "TSK_ROUNDING must be TSK_ROUNDING_TFLM (0) or TSK_ROUNDING_SINGLE (1)"
#endif

/** Kernels: plain C99, the DSP extension (M4, M7, M33), or Helium (M55). The default is the best the target has.
 * The fast ones are written for GCC and Clang. Those for the DSP extension load words at any address: where the
 * processor traps that (CCR.UNALIGN_TRP), compile with -mno-unaligned-access or choose TSK_KERNELS_PLAIN. */
#define TSK_KERNELS_PLAIN 0
#define TSK_KERNELS_DSP 1
#define TSK_KERNELS_MVE 2
/* Clang does not say whether unaligned accesses are allowed. */
#if defined(__GNUC__) && (defined(__clang__) || defined(__ARM_FEATURE_UNALIGNED)) && defined(__thumb2__) && \
    defined(__ARM_FEATURE_DSP)
#define TSK_HAS_DSP 1
#else
#define TSK_HAS_DSP 0
#endif
#if defined(__GNUC__) && defined(__ARM_FEATURE_MVE)
#define TSK_HAS_MVE (__ARM_FEATURE_MVE & 1)
#else
#define TSK_HAS_MVE 0
#endif
#ifndef TSK_KERNELS
#if TSK_HAS_MVE
#define TSK_KERNELS TSK_KERNELS_MVE
#elif TSK_HAS_DSP
#define TSK_KERNELS TSK_KERNELS_DSP
#else
#define TSK_KERNELS TSK_KERNELS_PLAIN
#endif
#endif
#if TSK_KERNELS == TSK_KERNELS_MVE && !TSK_HAS_MVE
#error "TSK_KERNELS_MVE needs Helium: use -mcpu=cortex-m55 -mfloat-abi=hard, or leave TSK_KERNELS undefined"
#endif
#if TSK_KERNELS == TSK_KERNELS_DSP && !TSK_HAS_DSP
#error "TSK_KERNELS_DSP needs the DSP extension and unaligned accesses: use -mcpu=cortex-m4, or leave TSK_KERNELS undefined"
#endif
#if TSK_KERNELS < TSK_KERNELS_PLAIN || TSK_KERNELS > TSK_KERNELS_MVE
#error "TSK_KERNELS must be TSK_KERNELS_PLAIN (0), TSK_KERNELS_DSP (1) or TSK_KERNELS_MVE (2)"
#endif

/** Whether the image tests its kernels and the model against golden vectors when it starts: 1 or 0. */
#ifndef TSK_SELFTEST
#define TSK_SELFTEST 1
#endif
#if TSK_SELFTEST != 0 && TSK_SELFTEST != 1
#error "TSK_SELFTEST must be 0 or 1"
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernels and the model's constants are little-endian; build for a little-endian target"
#endif

/** What comes after the declarator of something whose address must be a multiple of `bytes`. */
#ifndef TSK_ALIGNED
#if defined(__GNUC__)
#define TSK_ALIGNED(bytes) __attribute__((aligned(bytes)))
#else
#define TSK_ALIGNED(bytes)
#endif
#endif

/** Where constants that come from the model are put, so that their size can be told from that of code and tables. */
#ifndef TSK_MODEL_DATA
#if defined(__GNUC__) && defined(__ELF__)
#define TSK_MODEL_DATA __attribute__((section(".rodata.tsk_model_data"), aligned(8)))
#else
#define TSK_MODEL_DATA
#endif
#endif

#endif
