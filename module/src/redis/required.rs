//! Whether the server has the functions that the module calls: asked once, before anything is registered.

use redis_module::raw;

macro_rules! missing {
    ($($name:ident),* $(,)?) => {{
        let mut missing: Vec<&'static str> = Vec::new();
        $(
            // SAFETY: RedisModule_Init has run and nothing writes these pointers after it.
            if unsafe { raw::$name }.is_none() {
                missing.push(concat!("RM_", stringify!($name)));
            }
        )*
        missing
    }};
}

/// The names of the functions that this server lacks.
pub(in crate::redis) fn missing_functions() -> Vec<&'static str> {
    missing!(
        RedisModule_ACLCheckCommandPermissions,
        RedisModule_AbortBlock,
        RedisModule_AddPostNotificationJob,
        RedisModule_Alloc,
        RedisModule_BlockClient,
        RedisModule_CachedMicroseconds,
        RedisModule_Call,
        RedisModule_CallReplyArrayElement,
        RedisModule_CallReplyLength,
        RedisModule_CallReplyProto,
        RedisModule_CallReplyStringPtr,
        RedisModule_CallReplyType,
        RedisModule_CloseKey,
        RedisModule_CommandFilterArgGet,
        RedisModule_CommandFilterArgInsert,
        RedisModule_CommandFilterArgReplace,
        RedisModule_CommandFilterArgsCount,
        RedisModule_CommandFilterGetClientId,
        RedisModule_CreateCommand,
        RedisModule_CreateString,
        RedisModule_CreateTimer,
        RedisModule_DeleteKey,
        RedisModule_Free,
        RedisModule_FreeCallReply,
        RedisModule_FreeString,
        RedisModule_GetAbsExpire,
        RedisModule_GetClientId,
        RedisModule_GetClientInfoById,
        RedisModule_GetClientUserNameById,
        RedisModule_GetCommand,
        RedisModule_GetCommandKeysWithFlags,
        RedisModule_GetContextFlags,
        RedisModule_GetCurrentUserName,
        RedisModule_GetModuleUserFromUserName,
        RedisModule_GetSelectedDb,
        RedisModule_GetServerInfo,
        RedisModule_HashGet,
        RedisModule_HashSet,
        RedisModule_InfoAddFieldLongLong,
        RedisModule_InfoAddSection,
        RedisModule_KeyType,
        RedisModule_LoadConfigs,
        RedisModule_Log,
        RedisModule_Milliseconds,
        RedisModule_NotifyKeyspaceEvent,
        RedisModule_OpenKey,
        RedisModule_Realloc,
        RedisModule_RegisterCommandFilter,
        RedisModule_RegisterInfoFunc,
        RedisModule_RegisterNumericConfig,
        RedisModule_RegisterStringConfig,
        RedisModule_Replicate,
        RedisModule_ReplyWithCallReply,
        RedisModule_ReplyWithError,
        RedisModule_ScanKey,
        RedisModule_SelectDb,
        RedisModule_ServerInfoGetFieldC,
        RedisModule_SetAbsExpire,
        RedisModule_SetClientNameById,
        RedisModule_SetCommandACLCategories,
        RedisModule_SetCommandInfo,
        RedisModule_SetModuleOptions,
        RedisModule_SignalModifiedKey,
        RedisModule_StringPtrLen,
        RedisModule_StringSet,
        RedisModule_StringToLongLong,
        RedisModule_SubscribeToKeyspaceEvents,
        RedisModule_SubscribeToServerEvent,
        RedisModule_UnblockClient,
        RedisModule_ZsetAdd,
        RedisModule_ZsetRem,
        RedisModule_ZsetScore,
    )
}
