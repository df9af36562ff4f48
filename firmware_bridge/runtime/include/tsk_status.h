/** @file
 * What functions return: 0, or one of these negative codes. */
#ifndef TSK_STATUS_H
#define TSK_STATUS_H

#define TSK_OK 0
#define TSK_E_ARGUMENT (-1) /**< A pointer is NULL, or a size is not what the header says. */
#define TSK_E_INDEX (-2)    /**< An id that GATHER or EMBEDDING_LOOKUP got is outside the table. */
#define TSK_E_SPACE (-3)    /**< The buffer that the caller gave is too small, or is not aligned. */
#define TSK_E_SELFTEST (-4) /**< A kernel or the model gave other bits than it must; do not use this image. */
#define TSK_E_IO (-5)       /**< The serial line or the storage failed. */
#define TSK_E_TIMEOUT (-6)  /**< Nothing came in the time given. */
#define TSK_E_FULL (-7)     /**< The context of a causal model is full; begin anew. */
#define TSK_E_TEXT (-8)     /**< The text is blank, has no tokens, or is no UTF-8. */

#endif
